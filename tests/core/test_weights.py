"""Finding a checkpoint and reading its safetensors: one file or shards, on disk or in the hub's cache."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.torch import load_file

from tempo_core.errors import CheckpointError
from tempo_core.weights import WeightFiles, find_folder, read_config, torch_dtype
from tests.support.altered_checkpoints import INDEX, VISION, WEIGHTS, copied, edit_index, edit_tensors, shard
from tests.support.golden_cases import BASE, TEMPO

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(tmp_path).tempo


def put_in_hub_cache(hub_id: str, source: Path) -> Path:
    """The cache layout of huggingface_hub: blobs, snapshots that link to them, and a ref."""
    repository = Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file in source.iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (snapshot / file.name).symlink_to(repository / "blobs" / file.name)
    return snapshot


# --- one file or shards ----------------------------------------------------------------------------------------------


def test_shards_hold_the_same_tensors_as_the_single_file(folder: Path) -> None:
    single = WeightFiles(TEMPO)
    shard(folder)
    sharded = WeightFiles(folder)
    assert sharded.names() == single.names()
    ours, theirs = dict(sharded.tensors(sharded.names())), dict(single.tensors(single.names()))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_names_are_those_below_a_prefix() -> None:
    names = WeightFiles(TEMPO).names(VISION)
    assert names == sorted(names)
    assert names
    assert all(name.startswith(VISION) for name in names)


def test_tensor_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing tensor model\.nothing"):
        list(WeightFiles(folder).tensors(["model.nothing"]))


def test_tensor_that_is_not_in_its_shard_is_named_with_the_shard(folder: Path) -> None:
    shards = shard(folder)
    edit_index(
        folder, lambda mapping: mapping.update({"model.norm.weight": shards[0].name, "lm_head.weight": shards[1].name})
    )
    weights = WeightFiles(folder)
    with pytest.raises(
        CheckpointError, match=r"-of-00003\.safetensors: missing tensor .*, which the index places here"
    ):
        list(weights.tensors(weights.names()))


def test_truncated_file_is_named(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 1000)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable safetensors file"):
        WeightFiles(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no safetensors", b"\xff" * 100])
def test_file_of_another_kind_is_named(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable safetensors file"):
        WeightFiles(folder)


def test_truncated_shard_is_named(folder: Path) -> None:
    broken = shard(folder)[1]
    os.truncate(broken, 5000)
    weights = WeightFiles(folder)
    with pytest.raises(CheckpointError, match=rf"{broken.name}: not a readable safetensors file"):
        list(weights.tensors(weights.names()))


@pytest.mark.parametrize("elsewhere", ["model-9.safetensors", "../model.safetensors", "/etc/passwd"])
def test_shard_outside_the_folder_is_refused(folder: Path, elsewhere: str) -> None:
    shard(folder)
    edit_index(folder, lambda mapping: mapping.update({"lm_head.weight": elsewhere}))
    with pytest.raises(CheckpointError, match=f"names the shard {elsewhere}, which is not in the folder"):
        WeightFiles(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": null}', "\udcff"])
def test_broken_index_is_named(folder: Path, content: str) -> None:
    shard(folder)
    (folder / INDEX).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"index\.json: no usable weight_map"):
        WeightFiles(folder)


class Exploding:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_pickled_weights_are_never_opened(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Exploding(mark)))
    WeightFiles(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="only safetensors weights are read"):
        WeightFiles(folder)
    assert not mark.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert mark.exists()  # so the check above could have failed


# --- identity --------------------------------------------------------------------------------------------------------


def test_hash_does_not_depend_on_sharding(folder: Path) -> None:
    shard(folder, 4)
    assert WeightFiles(folder).sha256(VISION) == WeightFiles(TEMPO).sha256(VISION)


def test_hash_depends_on_a_single_number(folder: Path) -> None:
    name = WeightFiles(folder).names(VISION)[0]
    edit_tensors(folder, lambda tensors: tensors[name].view(-1)[:1].add_(1e-3))
    assert WeightFiles(folder).sha256(VISION) != WeightFiles(TEMPO).sha256(VISION)


def test_hash_depends_on_the_type(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: one.bfloat16() for name, one in tensors.items()}))
    before = WeightFiles(folder).sha256(VISION)
    same_bytes = {name: one.view(torch.float16) for name, one in load_file(folder / WEIGHTS).items()}
    edit_tensors(folder, lambda tensors: tensors.update(same_bytes))
    assert WeightFiles(folder).sha256(VISION) != before


def test_stamp_changes_with_a_file(folder: Path) -> None:
    files = shard(folder)
    before = WeightFiles(folder).stamp()
    assert WeightFiles(folder).stamp() == before
    os.utime(files[2], ns=(1, 1))
    assert WeightFiles(folder).stamp() != before


# --- where a checkpoint is -------------------------------------------------------------------------------------------


def test_folder_is_found_by_path_beside_and_inside(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    assert find_folder(copy.base) == find_folder(str(copy.base)) == copy.base
    assert find_folder("tiny-qwen3-vl", beside=copy.tempo) == copy.base
    shutil.move(copy.base, copy.tempo / "tiny-qwen3-vl")
    assert find_folder("tiny-qwen3-vl", beside=copy.tempo) == copy.tempo / "tiny-qwen3-vl"


def test_folder_beside_the_checkpoint_comes_before_one_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copied(tmp_path)
    shutil.copytree(BASE, tmp_path / "elsewhere" / BASE.name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_folder(BASE.name, beside=copy.tempo) == copy.base


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "~/nothing", "nothing", "a/b/c", "x" * 400, "a\0b"])
def test_place_without_a_checkpoint_is_one_clear_error(name: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        find_folder(name)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', "\udcff"])
def test_config_that_is_no_json_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["float16", "int8", "", "bf16"])
def test_other_dtypes_are_refused(name: str) -> None:
    assert torch_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(CheckpointError, match="choose float32 or bfloat16"):
        torch_dtype(name)


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_hub_id_is_found_in_the_hubs_cache() -> None:
    snapshot = put_in_hub_cache("someone/cached", BASE)
    assert find_folder("someone/cached") == snapshot


@pytest.mark.parametrize("hub_id", ["someone/not-cached", "not a/valid id"])
def test_hub_id_that_cannot_be_fetched_is_one_clear_error(hub_id: str) -> None:
    with pytest.raises(CheckpointError, match=f"cannot fetch {hub_id} from the Hugging Face hub: "):
        find_folder(hub_id)


class BrokenHub(BaseHTTPRequestHandler):
    """Lists one file of one repository, and breaks off while sending it."""

    def do_GET(self) -> None:
        files = [{"type": "file", "path": "config.json", "size": 1000, "oid": COMMIT}]
        whole = files if "/tree/" in self.path else {"id": "someone/broken", "sha": COMMIT, "siblings": []}
        body = b"" if "/resolve/" in self.path else json.dumps(whole).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) or 1000))
        self.send_header("ETag", f'"{COMMIT}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def broken_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BrokenHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("reachable", [True, False])
def test_hub_that_breaks_off_is_one_clear_error(broken_hub: str, reachable: bool, tmp_path: Path) -> None:
    program = (
        "from tempo_core.errors import CheckpointError\n"
        "from tempo_core.weights import find_folder\n"
        "try: find_folder('someone/broken')\n"
        "except CheckpointError as error: print(error)\n"
    )
    endpoint = broken_hub if reachable else "http://127.0.0.1:9"
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.startswith("cannot fetch someone/broken from the Hugging Face hub: "), done.stderr[-2000:]
