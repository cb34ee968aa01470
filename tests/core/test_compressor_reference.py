"""The split against transformers' own Qwen3-VL: its tower, and its model over the whole sequence at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode
from transformers import Qwen3VLConfig, Qwen3VLModel

from tempo_core.values import FloatArray, SegmentPixels
from tests.support.altered_checkpoints import SVLM, WEIGHTS
from tests.support.golden_cases import BASE, TEMPO, golden_checkpoint, small_segment

QUESTION = "Is a <|im_end|> red square anywhere?"
SEGMENTS = [
    small_segment((2, 4, 4), 0.5, seed=1),
    small_segment((3, 8, 4), 99.5, seed=2),
    small_segment((4, 6, 10), 1000.5, seed=3),
    small_segment((1, 4, 4), 12.5, seed=4),
]


@cache
def whole_model() -> Any:
    """transformers' Qwen3VLModel with the golden checkpoint's fine-tuned weights."""
    model = Qwen3VLModel(Qwen3VLConfig.from_pretrained(BASE))
    tensors = load_file(TEMPO / WEIGHTS)
    model.load_state_dict({name.removeprefix(SVLM): one for name, one in tensors.items() if name.startswith(SVLM)})
    return model.eval().requires_grad_(False)


def normalized(segment: SegmentPixels) -> torch.Tensor:
    return torch.from_numpy((segment.patches / 127.5 - 1).astype(np.float32))


def whole_sequence(segment: SegmentPixels, suffix: list[int]) -> torch.Tensor:
    """[length, D]: final-normed hidden states of prefix and suffix in one causal pass, pixels included."""
    prefix = golden_checkpoint().compressor._prompts.prefix(segment.grid_thw, segment.pair_times_s, merge=2)
    kinds = [*(2 * prefix.is_visual).tolist(), *[0] * len(suffix)]
    out = whole_model()(
        input_ids=torch.tensor([[*prefix.ids.tolist(), *suffix]]),
        pixel_values_videos=normalized(segment),
        video_grid_thw=torch.tensor([segment.grid_thw]),
        mm_token_type_ids=torch.tensor([kinds]),
    )
    hidden: torch.Tensor = out.last_hidden_state[0]
    return hidden


class Attentions(TorchFunctionMode):
    """Counts calls of scaled_dot_product_attention while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


# --- the vision tower ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda segment: str(segment.grid_thw))
def test_states_are_what_the_own_tower_of_transformers_gives(segment: SegmentPixels) -> None:
    (state,) = golden_checkpoint().compressor.encode([segment])
    theirs = whole_model().visual(normalized(segment), grid_thw=torch.tensor([segment.grid_thw]))
    assert len(theirs.deepstack_features) == 3
    levels = torch.stack([theirs.pooler_output, *theirs.deepstack_features]).numpy()
    np.testing.assert_allclose(state.visual, levels, rtol=0, atol=1e-5)


def test_attention_of_all_frame_pairs_is_one_call_a_layer() -> None:
    segments = [small_segment((3, 4, 4), seed=seed) for seed in range(5)]
    with Attentions() as ours:
        golden_checkpoint().compressor.encode(segments)
    with Attentions() as theirs:
        for segment in segments:
            whole_model().visual(normalized(segment), grid_thw=torch.tensor([segment.grid_thw]))
    layers = 4
    assert ours.calls == layers
    assert theirs.calls == layers * 5 * 3  # so the count can tell


def test_frame_pairs_do_not_see_each_other() -> None:
    segment = small_segment((2, 4, 4))
    (both,) = golden_checkpoint().compressor.encode([segment])
    first = SegmentPixels(segment.patches[:16], (1, 4, 4), segment.pair_times_s[:1])
    (alone,) = golden_checkpoint().compressor.encode([first])
    np.testing.assert_allclose(both.visual[:, :4], alone.visual, rtol=0, atol=1e-5)


# --- the whole sequence ----------------------------------------------------------------------------------------------


def reference_score(hidden: torch.Tensor) -> float:
    compressor = golden_checkpoint().compressor
    head = load_file(BASE / WEIGHTS)["model.language_model.embed_tokens.weight"]
    yes, no = (compressor._prompts.token_id(word) for word in ("Yes", "No"))
    return float(torch.sigmoid(hidden[-1] @ (head[yes] - head[no])))


def unit(hidden: torch.Tensor) -> FloatArray:
    vector: FloatArray = (hidden[-1] / hidden[-1].norm()).numpy()
    return vector


def test_scores_equal_those_of_one_undivided_pass() -> None:
    compressor = golden_checkpoint().compressor
    suffix = compressor._prompts.question_suffix(QUESTION)
    theirs = [reference_score(whole_sequence(segment, suffix)) for segment in SEGMENTS]
    ours = compressor.relevance(compressor.encode(SEGMENTS), QUESTION)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_features_equal_those_of_one_undivided_pass() -> None:
    compressor = golden_checkpoint().compressor
    suffix = compressor._prompts.summary_suffix()
    theirs = np.stack([unit(whole_sequence(segment, suffix)) for segment in SEGMENTS])
    np.testing.assert_allclose(compressor.features(compressor.encode(SEGMENTS)), theirs, rtol=0, atol=1e-5)


def test_question_feature_equals_that_of_the_text_model() -> None:
    compressor = golden_checkpoint().compressor
    ids = torch.tensor([compressor._prompts.question_summary(QUESTION)])
    hidden = whole_model()(input_ids=ids).last_hidden_state[0]
    np.testing.assert_allclose(compressor.question_feature(QUESTION), unit(hidden), rtol=0, atol=1e-5)


def test_prefix_holds_the_keys_and_values_of_transformers_own_cache() -> None:
    compressor, segment = golden_checkpoint().compressor, SEGMENTS[1]
    prompt = compressor._prompts.prefix(segment.grid_thw, segment.pair_times_s, merge=2)
    out = whole_model()(
        input_ids=torch.tensor([prompt.ids.tolist()]),
        pixel_values_videos=normalized(segment),
        video_grid_thw=torch.tensor([segment.grid_thw]),
        mm_token_type_ids=torch.tensor([(2 * prompt.is_visual).tolist()]),
        use_cache=True,
    )
    ours = compressor.prefill(compressor.encode([segment])).kv
    own = out["cache" if "cache" in out else "past_key_values"]  # renamed in transformers 5.24
    for layer, cached in enumerate(own.layers):
        np.testing.assert_allclose(ours[layer, 0], cached.keys[0].transpose(0, 1), rtol=0, atol=2e-5)
        np.testing.assert_allclose(ours[layer, 1], cached.values[0].transpose(0, 1), rtol=0, atol=2e-5)
