"""Checkpoints that are incomplete, of another kind or hostile: one error that names the file or tensor, nothing run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tempo_core import load_checkpoint
from tempo_core.errors import CheckpointError
from tests.support.altered_checkpoints import (
    EMBEDDINGS,
    MEMORY_TOKENS,
    PROJECTOR,
    SVLM,
    TEXT,
    VISION,
    Copy,
    Tensors,
    behaviour,
    edit_config,
    edit_tensors,
)
from tests.support.golden_cases import golden_checkpoint

# --- tensors ---------------------------------------------------------------------------------------------------------

EVERY_PART = [
    VISION + "blocks.0.attn.qkv.weight",
    VISION + "deepstack_merger_list.0.norm.weight",
    TEXT + "layers.3.mlp.up_proj.weight",
    MEMORY_TOKENS,
    PROJECTOR + "2.weight",
    "model.layers.1.self_attn.q_norm.weight",
    "model.embed_tokens.weight",
    "lm_head.weight",
]


@pytest.mark.parametrize("name", EVERY_PART)
def test_missing_tensor_is_named(name: str, copy: Copy) -> None:
    edit_tensors(copy.tempo, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"{copy.tempo}: missing tensor {name}"):
        load_checkpoint(copy.tempo)


@pytest.mark.parametrize(
    "name",
    [
        "model.extra",
        "model.layers.3.mlp.up_proj.weight",
        VISION + "extra",
        TEXT + "layers.4.mlp.up_proj.weight",
        SVLM + "extra",
        PROJECTOR + "4.weight",
        "optimizer.state",
    ],
)
def test_extra_tensor_is_named(name: str, copy: Copy) -> None:
    edit_tensors(copy.tempo, lambda tensors: tensors.update({name: tensors["model.norm.weight"].clone()}))
    with pytest.raises(CheckpointError, match=f"{copy.tempo}: extra tensor {name}"):
        load_checkpoint(copy.tempo)


@pytest.mark.parametrize("name", EVERY_PART)
def test_tensor_of_another_shape_is_named(name: str, copy: Copy) -> None:
    edit_tensors(copy.tempo, lambda tensors: tensors.update({name: tensors[name][..., :-1].clone()}))
    with pytest.raises(CheckpointError, match=rf"tensor {name} (is|has).*\[.*the config asks for"):
        load_checkpoint(copy.tempo)


def test_tensor_of_whole_numbers_is_named(copy: Copy) -> None:
    edit_tensors(copy.tempo, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"].int()}))
    with pytest.raises(CheckpointError, match=r"tensor lm_head\.weight is torch\.int32"):
        load_checkpoint(copy.tempo)


def test_truncated_weights_are_named(copy: Copy) -> None:
    os.truncate(copy.tempo / "model.safetensors", 100_000)
    with pytest.raises(CheckpointError, match=r"tiny-tempo/model\.safetensors: not a readable safetensors file"):
        load_checkpoint(copy.tempo)


def _damage(name: str) -> Callable[[Tensors], None]:
    """A tensor with one infinity in every row: whatever it is multiplied with is not finite."""

    def spoil(tensors: Tensors) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name].view(len(tensors[name]), -1)[:, 0] = torch.inf

    return spoil


@pytest.mark.parametrize("name", [VISION + "patch_embed.proj.weight", TEXT + "layers.3.mlp.up_proj.weight"])
def test_damaged_weights_are_the_checkpoints_error(name: str, copy: Copy) -> None:
    edit_tensors(copy.tempo, _damage(name))
    with pytest.raises(CheckpointError, match=f"{copy.tempo}: .* not finite .* weights are damaged"):
        load_checkpoint(copy.tempo)


def test_damaged_head_of_the_base_is_the_checkpoints_error(copy: Copy) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[EMBEDDINGS][yes] = torch.inf

    yes = golden_checkpoint().compressor._prompts.token_id("Yes")
    edit_tensors(copy.base, spoil)
    with pytest.raises(CheckpointError, match="weights are damaged"):
        load_checkpoint(copy.tempo)


def drop_head(tensors: Tensors) -> None:
    tensors.pop(EMBEDDINGS)


def halve_head(tensors: Tensors) -> None:
    tensors[EMBEDDINGS] = tensors[EMBEDDINGS][:, :32]


@pytest.mark.parametrize("spoil", [drop_head, halve_head])
def test_base_without_a_usable_head_is_named(spoil: Callable[[Tensors], None], copy: Copy) -> None:
    edit_tensors(copy.base, spoil)
    with pytest.raises(CheckpointError, match=rf"{copy.base}: .*embed_tokens\.weight"):
        load_checkpoint(copy.tempo)


def test_base_that_is_not_tied_needs_its_head(copy: Copy) -> None:
    edit_config(copy.base, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=rf"{copy.base}: missing tensor lm_head\.weight"):
        load_checkpoint(copy.tempo)


# --- configs and tokenizers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mm_vision_tower_aux_list": None}, "no mm_vision_tower_aux_list;"),
        ({"mm_vision_tower_aux_list": []}, "no mm_vision_tower_aux_list;"),
        ({"mm_vision_tower_aux_list": "tiny-qwen3-vl"}, "no mm_vision_tower_aux_list;"),
        ({"mm_projector_type": "resampler"}, "mm_projector_type 'resampler'"),
        ({"mm_projector_type": "mlp0x_gelu"}, "mm_projector_type 'mlp0x_gelu'"),
        ({"hidden_size": "large"}, "hidden_size"),
        ({"num_hidden_layers": -1}, "config.json|extra tensor"),
        ({"tokenizer_model_max_length": "long"}, "tokenizer_model_max_length"),
        ({"frame_geometry": {"longest_edge": 512, "colour": 3}}, "frame_geometry"),
        ({"frame_geometry": {"longest_edge": "large"}}, "frame_geometry.longest_edge"),
        ({"frame_geometry": {"patch_multiple": 0}}, "frame_geometry.patch_multiple"),
        ({"frame_geometry": [512]}, "frame_geometry"),
        ({"absent_below": 1.5}, "absent_below is 1.5, not a score within 0..1"),
        ({"absent_below": "low"}, "absent_below"),
        ({"min_compression_tokens": 0}, "min_compression_tokens is 0, not a number from 1 on"),
        ({"min_compression_tokens": True}, "min_compression_tokens"),
        ({"frame_geometry": {"patch_multiple": 48}}, "patch_multiple is 48, not a multiple of 32"),
        ({"frame_geometry": {"min_area": 10**6}}, "min_area is above max_area"),
    ],
)
def test_config_that_cannot_be_meant_is_named(changes: dict[str, object], reason: str, copy: Copy) -> None:
    edit_config(copy.tempo, "config.json", **changes)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(copy.tempo)
    assert str(copy.tempo) in str(caught.value)


@pytest.mark.parametrize("key", ["patch_size", "temporal_patch_size", "spatial_merge_size"])
def test_a_vision_tower_of_other_patches_is_refused(key: str, copy: Copy) -> None:
    vision = json.loads((copy.base / "config.json").read_text())["vision_config"]
    edit_config(copy.base, vision_config=vision | {key: 4})
    with pytest.raises(CheckpointError, match=rf"vision_config\.{key} is 4"):
        load_checkpoint(copy.tempo)


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
@pytest.mark.parametrize("which", ["tempo", "base"])
def test_config_that_is_no_json_object_is_named(which: str, content: str, copy: Copy) -> None:
    folder: Path = getattr(copy, which)
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"{folder}/config\.json: "):
        load_checkpoint(copy.tempo)


@pytest.mark.parametrize(
    "changes", [{"model_type": "llava"}, {"model_type": None}, {"text_config": {"hidden_size": "x"}}]
)
def test_base_of_another_kind_is_named(changes: dict[str, object], copy: Copy) -> None:
    edit_config(copy.base, "config.json", **changes)
    with pytest.raises(CheckpointError, match=rf"{copy.base}/config\.json: "):
        load_checkpoint(copy.tempo)


def test_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}: give a folder with a config.json"):
        load_checkpoint(tmp_path)


def remove_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()


def empty_tokenizer(folder: Path) -> None:
    remove_tokenizer(folder)
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")


def cut_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:1000])


def remove_template(folder: Path) -> None:
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)


def break_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for")


def template_that_reaches_out(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")


@pytest.mark.parametrize(
    "spoil",
    [remove_tokenizer, empty_tokenizer, cut_tokenizer, remove_template, break_template, template_that_reaches_out],
)
@pytest.mark.parametrize("which", ["tempo", "base"])
def test_tokenizer_that_cannot_be_used_is_named(spoil: Callable[[Path], None], which: str, copy: Copy) -> None:
    folder: Path = getattr(copy, which)
    spoil(folder)
    with pytest.raises(CheckpointError, match=f"{folder}: .*(tokenizer|template)"):
        load_checkpoint(copy.tempo)


# --- hostile ---------------------------------------------------------------------------------------------------------


def test_no_code_of_a_checkpoint_is_run(copy: Copy, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n"
    for folder in (copy.tempo, copy.base):
        for name in ("evil.py", "configuration_tempo.py", "modeling_tempo.py", "tokenization_tempo.py", "setup.py"):
            (folder / name).write_text(code)
        remote = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForCausalLM": "modeling_tempo.Evil"}
        edit_config(folder, auto_map=remote, trust_remote_code=True)
        tokens = {"auto_map": {"AutoTokenizer": ["tokenization_tempo.Evil", None]}, "tokenizer_class": "Evil"}
        edit_config(folder, "tokenizer_config.json", trust_remote_code=True, **tokens)
    ours = behaviour(load_checkpoint(copy.tempo))
    np.testing.assert_allclose(ours, behaviour(golden_checkpoint()), rtol=0, atol=1e-5)
    assert not mark.exists()
    exec(json.loads(json.dumps(code)), {})
    assert mark.exists()  # so the check above could have failed
