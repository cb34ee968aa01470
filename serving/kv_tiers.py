"""KV caches of segments within byte budgets: on the device, then in host memory, least recently used out first.

The unit is a slab: the KV caches of segments that were restored together. Any of its segments leads to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tempo_core.host import memory_bytes
from tempo_core.prefix_cache import PrefixCache


@dataclass(frozen=True)
class SegmentKey:
    """A segment's whole identity: content, committed generation (which implies the fingerprint) and position."""

    video_id: str
    generation: str
    index: int


def default_budgets(device: torch.device) -> tuple[int, int]:
    """(device bytes, host bytes): half of what the GPU has free once the model is loaded, a quarter of the memory
    that this process may use (a container's limit counts)."""
    memory_quarter = memory_bytes() // 4
    if device.type != "cuda":
        return memory_quarter, 0
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2, memory_quarter


class KvTiers:
    """Slabs of KV caches. ``device_bytes`` and ``host_bytes`` bound what is kept between questions.

    Where the device is the CPU there is one tier: the device's.
    """

    def __init__(self, device: torch.device, device_bytes: int, host_bytes: int) -> None:
        self._target = device
        self._device_bytes = max(0, device_bytes)
        self._host_bytes = 0 if device.type == "cpu" else max(0, host_bytes)
        self._device: OrderedDict[int, PrefixCache] = OrderedDict()
        self._host: OrderedDict[int, PrefixCache] = OrderedDict()
        self._keys: dict[int, dict[SegmentKey, int]] = {}  # slab -> its segments' rows
        self._slab_of: dict[SegmentKey, int] = {}
        self._next = 0

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes on the device and in host memory."""
        return _bytes(self._device), _bytes(self._host)

    def group(self, keys: Sequence[SegmentKey], size: int) -> list[list[int]]:
        """Positions in ``keys``, grouped by the slab that holds them; those that none holds in runs of ``size``."""
        held: dict[int, list[int]] = {}
        missing: list[int] = []
        for position, key in enumerate(keys):
            slab = self._slab_of.get(key)
            (missing if slab is None else held.setdefault(slab, [])).append(position)
        return [*held.values(), *(missing[start : start + size] for start in range(0, len(missing), size))]

    def holds(self, keys: Sequence[SegmentKey]) -> bool:
        """Whether one slab holds all of ``keys``."""
        slabs = {self._slab_of.get(key) for key in keys}
        return len(slabs) == 1 and None not in slabs

    def get(self, keys: Sequence[SegmentKey]) -> PrefixCache | None:
        """The caches of ``keys``, in that order, on the device; None unless one slab holds them all."""
        if not self.holds(keys):
            return None
        number = self._slab_of[keys[0]]
        rows = [self._keys[number][key] for key in keys]
        if number in self._host:
            self._device[number] = self._host.pop(number).to(self._target)
        self._device.move_to_end(number)
        slab = self._device[number]
        self._shrink()
        return slab if rows == list(range(len(slab))) else slab.select(rows)

    def put(self, keys: Sequence[SegmentKey], slab: PrefixCache) -> None:
        """Keeps a new slab as the most recently used; the least recently used move to host memory, then are dropped."""
        number, self._next = self._next, self._next + 1
        self._keys[number] = {key: row for row, key in enumerate(keys)}
        self._slab_of.update(dict.fromkeys(keys, number))
        self._device[number] = slab
        self._shrink()

    def _shrink(self) -> None:
        while _bytes(self._device) > self._device_bytes:
            number, slab = self._device.popitem(last=False)
            if slab.nbytes <= self._host_bytes:
                self._host[number] = slab.to("cpu")
            else:
                self._forget(number)
        while _bytes(self._host) > self._host_bytes:
            number, _ = self._host.popitem(last=False)
            self._forget(number)

    def _forget(self, number: int) -> None:
        for key in self._keys.pop(number):
            self._slab_of.pop(key)


def _bytes(tier: OrderedDict[int, PrefixCache]) -> int:
    return sum(slab.nbytes for slab in tier.values())
