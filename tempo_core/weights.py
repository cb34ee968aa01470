"""Reading safetensors checkpoints: one file or shards with an index, found on disk or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from tempo_core.errors import CheckpointError, NotFetched

if TYPE_CHECKING:
    import torch

# Weights and texts only: never pickles, never code.
_HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.jinja"]


def torch_dtype(name: str) -> torch.dtype:
    """``float32`` or ``bfloat16``; CheckpointError for anything else."""
    import torch

    try:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    except KeyError:
        raise CheckpointError(f"dtype {name!r} is not supported; choose float32 or bfloat16") from None


def find_folder(name: str | os.PathLike[str], beside: Path | None = None, may_fetch: bool = True) -> Path:
    """A folder by path, beside another checkpoint, or from the hub (its cache first; offline mode is respected).

    Without ``may_fetch`` the hub is not asked: NotFetched where its cache has no such checkpoint.
    """
    path = Path(name)
    try:
        for candidate in [*([beside / path, beside.parent / path] if beside else []), path]:
            if (candidate / "config.json").is_file():
                return candidate
        is_local = path.is_absolute() or path.exists() or str(name).startswith((".", "~"))
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        raise CheckpointError(f"no checkpoint at {name}: {getattr(error, 'strerror', None) or error}") from error
    if is_local or str(name).count("/") != 1:
        raise CheckpointError(f"no checkpoint at {name}: give a folder with a config.json, or a hub id owner/name")
    return _download(str(name)) if may_fetch else _cached(str(name))


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_PATTERNS))
    except (HFValidationError, HTTPError, OSError) as error:  # HTTPError: its HTTP library's, a broken connection
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"cannot fetch {hub_id} from the Hugging Face hub: {reason}") from error


def _cached(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_PATTERNS, local_files_only=True))
    except (HFValidationError, OSError) as error:
        raise NotFetched(hub_id) from error


def read_config(folder: Path) -> dict[str, object]:
    """The folder's config.json; CheckpointError if it is missing or no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'}: not a JSON object")
    return config


class WeightFiles:
    """The tensors of one checkpoint folder by name, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of = self._index()

    def names(self, prefix: str = "") -> list[str]:
        """All tensor names that begin with ``prefix``, sorted."""
        return sorted(name for name in self._file_of if name.startswith(prefix))

    def refuse_others(self, known: Collection[str], prefixes: tuple[str, ...]) -> None:
        """CheckpointError for a tensor outside the layout: by silent leftovers a wrong checkpoint goes unnoticed."""
        for name in self.names():
            if name not in known and not name.startswith(prefixes):
                raise CheckpointError(f"{self.folder}: extra tensor {name}, which is not part of the layout")

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, CPU tensor) grouped by file; CheckpointError names a tensor or file that cannot be read."""
        by_file: dict[str, list[str]] = {}
        for name in names:
            if name not in self._file_of:
                raise CheckpointError(f"{self.folder}: missing tensor {name}")
            by_file.setdefault(self._file_of[name], []).append(name)
        for file, members in by_file.items():
            yield from self._read(self.folder / file, members)

    def shape(self, name: str) -> list[int] | None:
        """What the header says of a tensor, of which nothing is read; None where there is none."""
        if name not in self._file_of:
            return None
        with _open(self.folder / self._file_of[name], "np") as file:
            return list(file.get_slice(name).get_shape()) if name in file.keys() else None

    def parameter_count(self) -> int:
        """Numbers in all tensors, by the files' headers."""
        count = 0
        for file in sorted(set(self._file_of.values())):
            with _open(self.folder / file, "np") as opened:
                shapes = (opened.get_slice(name).get_shape() for name in opened.keys())
                count += sum(prod(shape) for shape in shapes)
        return count

    def sha256(self, prefix: str) -> str:
        """Identity of the tensors under ``prefix``: names, types, shapes and bytes, however they are sharded."""
        import torch

        digest = hashlib.sha256()
        for name in self.names(prefix):
            ((_, tensor),) = self.tensors([name])
            digest.update(f"{name.removeprefix(prefix)}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
            raw: npt.NDArray[np.uint8] = tensor.contiguous().flatten().view(torch.uint8).numpy()
            digest.update(raw.data)
        return digest.hexdigest()

    def stamp(self) -> str:
        """Changes whenever one of the files does: names, sizes and modification times."""
        stats = [(file, (self.folder / file).stat()) for file in sorted(set(self._file_of.values()))]
        return json.dumps([[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats])

    def _index(self) -> dict[str, str]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            return self._sharded(index)
        single = self.folder / "model.safetensors"
        if not single.is_file():
            raise CheckpointError(
                f"{self.folder}: neither model.safetensors nor model.safetensors.index.json; "
                "only safetensors weights are read"
            )
        with _open(single, "np") as file:
            return dict.fromkeys(file.keys(), single.name)

    def _sharded(self, index: Path) -> dict[str, str]:
        try:
            mapping = {str(name): str(file) for name, file in json.loads(index.read_text())["weight_map"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index}: no usable weight_map ({error})") from error
        for file in sorted(set(mapping.values())):
            if Path(file).name != file or not (self.folder / file).is_file():
                raise CheckpointError(f"{index}: names the shard {file}, which is not in the folder")
        return mapping

    def _read(self, path: Path, names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
        with _open(path) as file:
            present = set(file.keys())
            for name in names:
                if name not in present:
                    raise CheckpointError(f"{path}: missing tensor {name}, which the index places here")
                yield name, file.get_tensor(name)


def _open(path: Path, framework: str = "pt") -> safe_open:
    """``np`` gives names without loading torch."""
    try:
        return safe_open(path, framework=framework, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
