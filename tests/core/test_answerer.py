"""The answering LLM: a prompt of tags and memory tokens, greedy tokens, text that streams, one prompt after another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from tempo_core.answerer import Answerer
from tempo_core.errors import BudgetError, UsageError
from tempo_core.values import FloatArray
from tests.support.altered_checkpoints import WEIGHTS
from tests.support.golden_cases import TEMPO, GoldenCase, golden_case, golden_checkpoint

QUESTION = "Where is the ball?"
VOCABULARY = 470


def answerer(stop_ids: frozenset[int] | None = None, context_tokens: int = 16384) -> Answerer:
    """The golden one, fresh: no memory yet."""
    golden = golden_checkpoint().answerer
    parts = (golden._llm, golden._projector, golden._prompts)
    return Answerer(*parts, context_tokens, golden._stop_ids if stop_ids is None else stop_ids)


def golden_memory(case: GoldenCase) -> list[torch.Tensor]:
    return [torch.from_numpy(tokens[:count]) for tokens, count in zip(case.features, case.allocation, strict=True)]


def asked(name: str) -> tuple[str, list[float], list[torch.Tensor]]:
    """What a golden case asks the LLM."""
    case = golden_case(name)
    return case.question, case.tag_times_s, golden_memory(case)


def noise(*counts: int) -> list[torch.Tensor]:
    random = np.random.default_rng(sum(counts))
    return [torch.from_numpy(random.normal(size=(count, 64)).astype(np.float32)) for count in counts]


# --- the prompt ------------------------------------------------------------------------------------------------------


def expected_prompt(question: str, pieces: Sequence[list[int] | torch.Tensor]) -> FloatArray:
    """Token ids through the embeddings, memory tokens through the projector, in one row."""
    golden = golden_checkpoint().answerer
    prompts = golden._prompts
    rows = []
    for piece in [prompts.answer_head(), *pieces, prompts.answer_tail(question)]:
        is_text = isinstance(piece, list)
        rows.append(golden._embed(torch.tensor(piece)) if is_text else golden._projector(piece))
    joined: FloatArray = torch.cat(rows).numpy()
    return joined


def test_each_segment_is_its_tag_and_its_memory_tokens() -> None:
    prompts, memory = golden_checkpoint().answerer._prompts, noise(3, 1)
    prompt = answerer().prompt(QUESTION, [2.0, 6.0], memory)
    pieces: list[list[int] | torch.Tensor] = [prompts.tag(2.0), memory[0], prompts.tag(6.0), memory[1]]
    np.testing.assert_allclose(prompt.embeds.numpy(), expected_prompt(QUESTION, pieces), atol=1e-6)


def test_titles_introduce_each_video() -> None:
    prompts, memory = golden_checkpoint().answerer._prompts, noise(2, 1, 1)
    prompt = answerer().prompt(QUESTION, [2.0, 6.0, 2.0], memory, titles={0: "one.mp4", 2: "two.mp4"})
    pieces: list[list[int] | torch.Tensor] = [
        prompts.title("one.mp4"),
        prompts.tag(2.0),
        memory[0],
        prompts.tag(6.0),
        memory[1],
        prompts.title("two.mp4"),
        prompts.tag(2.0),
        memory[2],
    ]
    np.testing.assert_allclose(prompt.embeds.numpy(), expected_prompt(QUESTION, pieces), atol=1e-6)


def test_tokens_are_counted_before_the_prompt_is_made() -> None:
    ours, titles, times = answerer(), {0: "one.mp4", 1: "two.mp4"}, [2.0, 1234.5]
    prompt = ours.prompt(QUESTION, times, noise(2, 3), titles=titles)
    lead = sum(map(ours.tag_tokens, times)) + sum(map(ours.title_tokens, titles.values()))
    assert prompt.tag_tokens == lead
    assert len(prompt) == ours.fixed_tokens(QUESTION) + lead + 5


@pytest.mark.parametrize("counts", [(0, 2, 0), (0, 0), (0,), ()])
def test_segments_without_memory_tokens_keep_their_tags(counts: tuple[int, ...]) -> None:
    ours, times = answerer(), [2.0 + 4 * i for i in range(len(counts))]
    prompt = ours.prompt(QUESTION, times, noise(*counts))
    assert len(prompt) == ours.fixed_tokens(QUESTION) + sum(map(ours.tag_tokens, times)) + sum(counts)
    assert len(ours.generate(QUESTION, times, noise(*counts), max_new_tokens=2).token_ids) == 2


def test_a_tag_for_each_segment_is_needed() -> None:
    with pytest.raises(UsageError, match="1 time tags for 2 segments"):
        answerer().prompt(QUESTION, [2.0], noise(1, 1))


def test_memory_of_another_float_type_is_taken() -> None:
    wide = [tokens.double() for tokens in noise(3, 2)]
    ours = answerer().next_logits(answerer().prompt(QUESTION, [2.0, 6.0], wide))
    np.testing.assert_array_equal(ours, answerer().next_logits(answerer().prompt(QUESTION, [2.0, 6.0], noise(3, 2))))


def test_what_comes_out_is_plain() -> None:
    prompt = answerer().prompt(QUESTION, [2.0], noise(1))
    logits = answerer().next_logits(prompt)
    assert (type(logits), logits.dtype, logits.shape) == (np.ndarray, np.dtype(np.float32), (VOCABULARY,))
    assert not prompt.embeds.requires_grad


# --- greedy tokens ---------------------------------------------------------------------------------------------------


@cache
def reference_llm() -> Any:
    """transformers' own Qwen3 with the golden checkpoint's weights."""
    config = json.loads((TEMPO / "config.json").read_text())
    own = {key: value for key, value in config.items() if key not in ("model_type", "architectures", "layer_types")}
    llm = Qwen3ForCausalLM(Qwen3Config(**own))
    tensors = load_file(TEMPO / WEIGHTS)
    llm.load_state_dict({name: tensors[name] for name in llm.state_dict()})
    return llm.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["b", "c", "d"])
def test_tokens_are_those_of_transformers_own_greedy_search(name: str) -> None:
    embeds = answerer().prompt(*asked(name)).embeds
    theirs = reference_llm().generate(
        inputs_embeds=embeds[None],
        attention_mask=torch.ones(1, len(embeds), dtype=torch.long),
        max_new_tokens=40,
        do_sample=False,
        eos_token_id=456,
    )
    ours = answerer().generate(*asked(name), max_new_tokens=40).token_ids
    assert ours == [token for token in theirs[0].tolist() if token != 456]


def test_the_answer_stops_before_the_end_of_turn() -> None:
    assert golden_checkpoint().answerer._stop_ids >= {456}
    first, second, *_ = answerer().generate(*asked("d"), max_new_tokens=3).token_ids
    assert first != second
    stopped = answerer(stop_ids=frozenset({second})).generate(*asked("d"), max_new_tokens=3)
    assert stopped.token_ids == [first]
    assert answerer(stop_ids=frozenset({first})).generate(*asked("d")).text == ""


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_answer_is_at_most_as_long_as_asked_for(count: int) -> None:
    answer = answerer().generate(*asked("d"), max_new_tokens=count)
    assert answer.token_ids == golden_case("d").generated[:count].tolist()
    assert answer.prompt_tokens == len(golden_case("d").llm_embeds)


def test_prompt_and_answer_beyond_the_context_are_an_error_that_says_the_way_out() -> None:
    length = len(answerer().prompt(*asked("d")))
    exact = answerer(context_tokens=length + 3)
    assert len(exact.generate(*asked("d"), max_new_tokens=3).token_ids) == 3
    with pytest.raises(BudgetError, match=rf"prompt of {length} tokens .* up to 4 .*context of {length + 3}; lower"):
        exact.generate(*asked("d"), max_new_tokens=4)
    with pytest.raises(BudgetError):
        next(exact.stream(*asked("d"), max_new_tokens=4))


# --- one prompt after another ----------------------------------------------------------------------------------------


def test_memory_that_served_other_prompts_gives_the_same_tokens() -> None:
    long = (QUESTION, [4.0 * i for i in range(18)], noise(*[128] * 18))  # beyond the first step of 2,048 tokens
    prompts = [asked("d"), asked("c"), asked("b"), long, asked("c"), asked("d")]
    used = answerer()
    for prompt in prompts:
        fresh = answerer().generate(*prompt, max_new_tokens=12)
        assert used.generate(*prompt, max_new_tokens=12) == fresh


def test_an_answer_can_outgrow_the_memory_of_an_earlier_one() -> None:
    used = answerer(stop_ids=frozenset())
    used.generate(*asked("d"), max_new_tokens=2)
    long = islice(used.token_ids(used.prompt(*asked("d")), max_new_tokens=2100), 12)
    assert list(long) == golden_case("d").generated.tolist()


def test_a_stream_can_be_abandoned() -> None:
    used = answerer()
    stream = used.stream(*asked("c"), max_new_tokens=12)
    assert next(stream)
    assert used.generate(*asked("d"), max_new_tokens=12).token_ids == golden_case("d").generated.tolist()
    del stream
    assert used.generate(*asked("c"), max_new_tokens=12).token_ids == golden_case("c").generated.tolist()


def test_a_stream_goes_on_whatever_else_is_answered_meanwhile() -> None:
    used = answerer()
    expected = used.generate(*asked("c"), max_new_tokens=12).text
    stream = used.stream(*asked("c"), max_new_tokens=12)
    begin = next(stream)
    used.generate(*asked("d"), max_new_tokens=2)
    assert begin + "".join(stream) == expected


def test_answers_in_several_threads_are_whole() -> None:
    used = answerer()

    def told(name: str) -> list[int]:
        return used.generate(*asked(name), max_new_tokens=12).token_ids

    names = ["c", "d", "b"] * 4
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(told, names)) == [golden_case(name).generated.tolist() for name in names]


def test_asking_for_logits_changes_no_later_answer() -> None:
    used = answerer()
    before = used.next_logits(used.prompt(*asked("d")))
    used.generate(*asked("c"), max_new_tokens=4)
    np.testing.assert_allclose(used.next_logits(used.prompt(*asked("d"))), before, atol=1e-6)


# --- text as it is generated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b", "c", "d"])
def test_joined_pieces_are_the_whole_text(name: str) -> None:
    pieces = list(answerer().stream(*asked(name), max_new_tokens=12))
    assert "".join(pieces) == answerer().generate(*asked(name), max_new_tokens=12).text
    assert all(pieces)
