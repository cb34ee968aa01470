"""The embedded model: the published layout, small, in the package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Tokenizer

from flows import embedded
from flows.embedded import embedded_folder
from nano.questions import answers
from nano.sizes import base_config, generation_config, stock_config, tempo_config
from nano.tokenizer import STOCK_WORDING, tokenizer_files, vocabulary, words
from tempo_core import load_checkpoint
from tempo_core.errors import CheckpointError
from tempo_core.weights import WeightFiles
from tests.support.golden_cases import BASE, TEMPO

BASE_FOLDER, NANO_VL = (embedded_folder().with_name(name) for name in ("tempo-nano-base", "nano-vl"))


def layout(folder: Path) -> set[str]:
    """Tensor names with every number as N."""
    return {re.sub(r"\b\d+\b", "N", name) for name in WeightFiles(folder).names()}


def test_tensors_have_the_published_names() -> None:
    assert layout(embedded_folder()) == layout(TEMPO)
    assert layout(BASE_FOLDER) <= layout(BASE)


def test_it_is_small_enough_to_be_kept_beside_the_code() -> None:
    folders = (embedded_folder(), BASE_FOLDER)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert max(path.stat().st_size for path in files) < 16e6


def test_its_weights_are_bfloat16() -> None:
    weights = WeightFiles(embedded_folder())
    assert {tensor.dtype for _, tensor in weights.tensors(weights.names())} == {torch.bfloat16}


@pytest.mark.parametrize("folder", [embedded_folder(), BASE_FOLDER], ids=["tempo", "base"])
def test_its_tokenizer_is_what_the_code_makes(folder: Path) -> None:
    assert {name: (folder / name).read_text(encoding="utf-8") for name in tokenizer_files()} == tokenizer_files()


def test_its_configs_are_what_the_code_makes() -> None:
    made = {embedded_folder(): tempo_config(), BASE_FOLDER: base_config()}
    assert {folder: json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in made} == made


def test_nano_vl_is_what_the_code_makes_and_small() -> None:
    texts = {"config.json": stock_config(), "generation_config.json": generation_config(vocabulary(STOCK_WORDING))}
    assert {name: json.loads((NANO_VL / name).read_text(encoding="utf-8")) for name in texts} == texts
    files = tokenizer_files(STOCK_WORDING)
    assert {name: (NANO_VL / name).read_text(encoding="utf-8") for name in files} == files
    assert sum(path.stat().st_size for path in NANO_VL.iterdir()) <= 20e6


def test_tokenizer_reads_any_text_and_gives_it_back() -> None:
    tokenizer = Qwen2Tokenizer.from_pretrained(embedded_folder())
    text = "What colour is the red square?\n Ünïcode, 日本語, \t 0123 <|im"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_word_of_its_world_is_one_token() -> None:
    tokenizer = Qwen2Tokenizer.from_pretrained(embedded_folder())
    spoken = [word.replace("Ġ", " ") for word in words()]
    assert [word for word in spoken if len(tokenizer.encode(word)) != 1] == []
    assert max(len(tokenizer.encode(answer)) for answer in answers()) == 2


def test_special_tokens_are_the_published_ones() -> None:
    ours, golden = (Qwen2Tokenizer.from_pretrained(folder) for folder in (BASE_FOLDER, BASE))
    assert ours.all_special_tokens == golden.all_special_tokens
    message = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "video"}, {"text": "b"}]}]
    prompts = [t.apply_chat_template(message, tokenize=False, add_generation_prompt=True) for t in (ours, golden)]
    assert prompts[0] == prompts[1]


def test_it_was_calibrated_to_know_what_is_absent() -> None:
    absent_below = load_checkpoint(embedded_folder()).absent_below
    assert absent_below is not None and 0 < absent_below < 1


def test_a_package_without_it_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "files", lambda _: tmp_path)
    with pytest.raises(CheckpointError, match=r"embedded model is missing at .*install the package again"):
        embedded_folder()
