"""A sibling of a stock checkpoint that makes features: the same vision tower, other text weights, its own prompt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.altered_checkpoints import edit_config

TEXT = "model.language_model."
CLOSING = "<|endoftext|>"


def embedding_model(stock: Path, folder: Path, seed: int = 1, changed: str = TEXT) -> Path:
    """A copy of ``stock`` at ``folder``, laid out as Qwen3-VL-Embedding is published.

    Tensors whose names begin with ``changed`` get noise by ``seed``. Its tokenizer puts ``CLOSING`` behind a text.
    """
    shutil.copytree(stock, folder)
    noise = torch.Generator().manual_seed(seed)
    for weights in sorted(folder.glob("*.safetensors")):
        tensors = load_file(weights)
        for name in tensors:
            if name.startswith(changed) and tensors[name].ndim > 1:
                tensors[name] = tensors[name] + 0.02 * torch.randn(tensors[name].shape, generator=noise)
        save_file(tensors, weights, metadata={"format": "pt"})
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    _close(folder)
    return folder


def _close(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (number,) = (token["id"] for token in tokenizer["added_tokens"] if token["content"] == CLOSING)
    text, closing = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": CLOSING, "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [text, closing],
        "pair": [text, closing, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {CLOSING: {"id": CLOSING, "ids": [number], "tokens": [CLOSING]}},
    }
    before = [tokenizer["post_processor"]] if tokenizer["post_processor"] else []
    edit_config(folder, "tokenizer.json", post_processor={"type": "Sequence", "processors": [*before, template]})


def edit_template(folder: Path, old: str, new: str) -> None:
    """Change the chat template of a checkpoint."""
    for path in folder.glob("chat_template.json"):
        path.unlink()
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
