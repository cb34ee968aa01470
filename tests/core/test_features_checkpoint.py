"""An embedding model makes, from stored states, the features that the stock model makes from the same frames' pixels.

The oracle is transformers' own ``Qwen3VLModel`` of the embedding checkpoint, with its own vision tower, given the
prompt as the published code has it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tempo_core import with_features
from tempo_core.errors import CheckpointError
from tempo_core.feature_model import FeatureModel
from tempo_core.features_identity import identify_features
from tempo_core.model_identity import identify_checkpoint
from tempo_core.spec import PAPER
from tempo_core.values import FloatArray, SegmentPixels
from tests.support.altered_checkpoints import edit_config, edit_tensors
from tests.support.embedding_model import CLOSING, edit_template, embedding_model
from tests.support.golden_cases import BASE, golden_checkpoint, small_segment, stock_checkpoint

QUESTION = "What moves, and when?"
SEGMENTS = [
    small_segment((4, 4, 6), 0.5, seed=1),
    replace(small_segment((2, 6, 4), 4.5, seed=2), pair_times_s=(99.95, 1000.04)),
    small_segment((1, 4, 6), 12.0, seed=3),
]
CHAT = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{{}}<|im_end|>\n<|im_start|>assistant\n"
SEGMENT = CHAT.format("Represent the user's input.")
ASKED = CHAT.format("Retrieve images or text relevant to the user's query.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedding_model(BASE, tmp_path_factory.mktemp("embedding") / "model")


@pytest.fixture
def altered(tmp_path: Path) -> Path:
    """One to be changed."""
    return embedding_model(BASE, tmp_path / "altered")


def featurer(folder: Path) -> FeatureModel:
    return with_features(stock_checkpoint(), folder).featurer


@cache
def stock(folder: Path) -> Any:
    from transformers import Qwen2Tokenizer, Qwen3VLForConditionalGeneration

    kind: Any = Qwen3VLForConditionalGeneration
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval().model
    return model, Qwen2Tokenizer.from_pretrained(folder)


def pairs_text(segment: SegmentPixels) -> str:
    _, rows, columns = segment.grid_thw
    pair = "<|vision_start|>" + "<|video_pad|>" * (rows * columns // 4) + "<|vision_end|>"
    return "".join(f"<{time_s:.1f} seconds>{pair}" for time_s in segment.pair_times_s)


def vector_by_stock(folder: Path, text: str, segment: SegmentPixels | None = None) -> FloatArray:
    """The normed last hidden state at the last token, of length 1; each frame pair is a video to the model."""
    model, tokenizer = stock(folder)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    seen = {}
    if segment is not None:
        seen = {
            "mm_token_type_ids": torch.where(ids == tokenizer.convert_tokens_to_ids("<|video_pad|>"), 2, 0),
            "pixel_values_videos": (torch.from_numpy(segment.patches).float() - 127.5) / 127.5,
            "video_grid_thw": torch.tensor([(1, *segment.grid_thw[1:])] * segment.grid_thw[0]),
        }
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids), **seen).last_hidden_state[0, -1]
    vector: FloatArray = torch.nn.functional.normalize(hidden, dim=-1).numpy()
    return vector


def test_features_of_stored_states_are_those_of_the_stock_model_on_the_same_pixels(folder: Path) -> None:
    states = stock_checkpoint().router.encode(SEGMENTS)
    theirs = [vector_by_stock(folder, SEGMENT.format(pairs_text(segment)), segment) for segment in SEGMENTS]
    np.testing.assert_allclose(featurer(folder).features(states), theirs, rtol=0, atol=1e-5)


def test_a_question_s_feature_is_that_of_the_stock_model(folder: Path) -> None:
    theirs = vector_by_stock(folder, ASKED.format(QUESTION))
    np.testing.assert_allclose(featurer(folder).question_feature(QUESTION), theirs, rtol=0, atol=1e-5)


def text_of(ids: list[int], folder: Path) -> str:
    return str(stock(folder)[1].decode(ids, skip_special_tokens=False))


def test_the_prompt_is_that_of_the_checkpoint_s_own_template_and_tokenizer(folder: Path, altered: Path) -> None:
    edit_template(altered, "<|im_start|>assistant", "<|im_start|>vector of it")
    for model, speaker in ((folder, "assistant"), (altered, "vector of it")):
        prompts = featurer(model)._prompts
        (segment,) = SEGMENTS[2:]
        prefix = prompts.prefix(segment.grid_thw, segment.pair_times_s, merge=2).ids.tolist()
        end = f"<|im_start|>{speaker}\n{CLOSING}"
        whole = SEGMENT.format(pairs_text(segment)).replace("<|im_start|>assistant\n", end)
        assert text_of(prefix + prompts.summary_suffix(), model) == whole
        asked = ASKED.format(QUESTION).replace("<|im_start|>assistant\n", end)
        assert text_of(prompts.question_summary(QUESTION), model) == asked


def test_a_question_stays_text(folder: Path) -> None:
    prompts = featurer(folder)._prompts
    for token in (CLOSING, "<|video_pad|>", "<|im_end|>"):
        ids, plain = prompts.question_summary(f"a {token}"), prompts.question_summary("x")
        assert ids.count(prompts.token_id(token)) == plain.count(prompts.token_id(token))


def test_only_the_last_link_of_the_chain_is_the_embedding_model_s(folder: Path, tmp_path: Path) -> None:
    own = stock_checkpoint().fingerprints(PAPER)
    chains = [with_features(stock_checkpoint(), model).fingerprints(PAPER) for model in (folder, other(tmp_path))]
    assert {(chain.frames, chain.states) for chain in chains} == {(own.frames, own.states)}
    assert len({own.features, *(chain.features for chain in chains)}) == 3


def other(tmp_path: Path) -> Path:
    return embedding_model(BASE, tmp_path / "other", seed=2)


def test_another_prompt_makes_other_features_of_the_same_states(folder: Path, altered: Path) -> None:
    same = identify_features(altered)
    assert same.text_sha256 == identify_features(folder).text_sha256
    assert same.prompt == identify_features(folder).prompt
    edit_template(altered, "<|im_start|>assistant", "<|im_start|>vector of it")
    assert identify_features(altered).prompt != same.prompt


def test_another_vision_tower_is_one_error_that_names_both_models_and_what_differs(tmp_path: Path) -> None:
    tower = embedding_model(BASE, tmp_path / "tower", changed="model.visual.")
    with pytest.raises(CheckpointError) as raised:
        with_features(stock_checkpoint(), tower)
    ours, theirs = stock_checkpoint().vision_sha256[:12], identify_features(tower).tower.sha256[:12]
    assert f"{tower} cannot make features of what {BASE} encodes" in str(raised.value)
    assert f"its weights {theirs}, where those of {BASE} are {ours}" in str(raised.value)


def test_states_of_another_shape_are_told_by_it(altered: Path) -> None:
    vision = json.loads((altered / "config.json").read_text())["vision_config"]
    edit_config(altered, vision_config=vision | {"deepstack_visual_indexes": []})
    with pytest.raises(CheckpointError, match=r"1 x 64 numbers a visual token, where .* makes \d x 64"):
        with_features(stock_checkpoint(), altered)


@pytest.mark.parametrize("given", [BASE, golden_checkpoint().id], ids=["stock", "Tempo"])
def test_a_model_that_answers_makes_no_features_of_another_s_states(given: str | Path) -> None:
    with pytest.raises(CheckpointError, match="is no Qwen3-VL embedding model"):
        with_features(stock_checkpoint(), given)


def test_an_embedding_model_is_no_model_that_answers(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{folder} is an embedding model: .* give it as --features"):
        identify_checkpoint(folder)


@pytest.mark.parametrize("config", ['{"pooling_mode": "mean"}', '{"pooling_mode_mean_tokens": true}'])
def test_another_pooling_is_refused(altered: Path, config: str) -> None:
    (altered / "1_Pooling" / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="pools its tokens by mean"):
        with_features(stock_checkpoint(), altered)


def test_the_pooling_of_earlier_files_is_known(altered: Path) -> None:
    (altered / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": false}'
    )
    assert identify_features(altered).tower == stock_checkpoint().tower


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ("{", "modules.json"),
        ('{"a": 1}', "not a list of modules"),
        ('[{"type": "x.Pooling", "path": "../elsewhere"}]', "no folder's name"),
        ('[{"type": "x.Pooling", "path": "nowhere"}]', "nowhere/config.json"),
    ],
)
def test_a_list_of_modules_that_is_none_is_named(altered: Path, modules: str, said: str) -> None:
    (altered / "modules.json").write_text(modules)
    with pytest.raises(CheckpointError, match=said):
        identify_features(altered)


def test_weights_that_compute_no_numbers_are_no_video_s_fault(altered: Path) -> None:
    norm = "model.language_model.norm.weight"
    edit_tensors(altered, lambda tensors: tensors.update({norm: tensors[norm] * float("nan")}))
    with pytest.raises(CheckpointError, match="its weights are damaged"):
        featurer(altered)


def test_a_missing_or_extra_tensor_is_named(altered: Path) -> None:
    edit_tensors(altered, lambda tensors: tensors.pop("model.language_model.norm.weight"))
    with pytest.raises(CheckpointError, match=r"missing tensor model\.language_model\.norm\.weight"):
        featurer(altered)
    edit_tensors(altered, lambda tensors: tensors.update({"model.extra": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"extra tensor model\.extra"):
        featurer(altered)
