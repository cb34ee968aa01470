"""The embedded model: the published layout, the same bytes everywhere, made once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from flows.embedded import embedded_folder, write_embedded
from tempo_core.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "8e7368ffa1fec9b440de0609406f478e1465fb47b8aad5ec5afeb53ffcb13572"


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    with safe_open(folder / "model.safetensors", "numpy") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_embedded(folder)
    return folder


def test_bytes_are_the_same_on_every_machine(written: Path) -> None:
    assert digest(written) == DIGEST


@pytest.mark.parametrize(("ours", "published"), [("embedded", "tiny-tempo"), ("embedded-base", "tiny-qwen3-vl")])
def test_tensors_have_the_published_names_and_ranks(written: Path, ours: str, published: str) -> None:
    mine, golden = tensor_shapes(written / ours), tensor_shapes(GOLDEN / published)
    assert mine.keys() == golden.keys()
    assert {name: len(shape) for name, shape in mine.items()} == {name: len(shape) for name, shape in golden.items()}


def test_tokenizer_reads_any_text_and_gives_it_back(written: Path) -> None:
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer.from_pretrained(written / "embedded")
    text = "What colour is the red square?\n Ünïcode, 日本語, \t 0123 <|im"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("Yes") == [tokenizer.get_vocab()["Yes"]]
    assert tokenizer.encode("No") == [tokenizer.get_vocab()["No"]]
    assert tokenizer.encode(" red square") == [tokenizer.get_vocab()["Ġred"], tokenizer.get_vocab()["Ġsquare"]]


def test_special_tokens_are_the_published_ones(written: Path) -> None:
    from transformers import Qwen2Tokenizer

    ours = Qwen2Tokenizer.from_pretrained(written / "embedded-base")
    golden = Qwen2Tokenizer.from_pretrained(GOLDEN / "tiny-qwen3-vl")
    assert ours.all_special_tokens == golden.all_special_tokens
    message = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "video"}, {"text": "b"}]}]
    prompts = [t.apply_chat_template(message, tokenize=False, add_generation_prompt=True) for t in (ours, golden)]
    assert prompts[0] == prompts[1]


def test_folder_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = embedded_folder()
    marks = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert embedded_folder() == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == marks
    assert [path.name for path in (tmp_path / "tempo").iterdir()] == [first.parent.name]


def test_cache_that_lost_a_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (embedded_folder() / "model.safetensors").unlink()
    assert digest(embedded_folder().parent) == DIGEST


def test_several_processes_may_make_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = [sys.executable, "-c", "from flows.embedded import embedded_folder; print(embedded_folder())"]
    running = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert digest(Path(said.pop()).parent) == DIGEST
    assert not said


def test_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"embedded model.*XDG_CACHE_HOME"):
        embedded_folder()
