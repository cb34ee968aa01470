"""KV caches of segments within byte budgets: on the device, then in host memory, least recently used out first.

The unit is a slab: the KV caches of segments that were restored together. Any of its segments leads to it. The slabs of
a question in preparation are pinned: what others restore meanwhile does not push them out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def default_answer_bytes(device: torch.device) -> int:
    """For the KV caches of answers that grow: half of what the caches between questions get."""
    return default_budgets(device)[0] // 2


class KvTiers:
    """Slabs of KV caches. ``device_bytes`` and ``host_bytes`` bound what is kept between questions.

    Where the device is the CPU there is one tier: the device's.
    """

    def __init__(self, device: torch.device, device_bytes: int, host_bytes: int) -> None:
        self._target = device
        self.device_bytes = max(0, device_bytes)
        self._host_bytes = 0 if device.type == "cpu" else max(0, host_bytes)
        self._device: OrderedDict[int, PrefixCache] = OrderedDict()
        self._host: OrderedDict[int, PrefixCache] = OrderedDict()
        self._keys: dict[int, dict[SegmentKey, int]] = {}  # slab -> its segments' rows
        self._slab_of: dict[SegmentKey, int] = {}
        self._pins: Counter[SegmentKey] = Counter()
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

    def holds_each(self, keys: Sequence[SegmentKey]) -> bool:
        """Whether each of ``keys`` is in some slab."""
        return all(key in self._slab_of for key in keys)

    @contextmanager
    def pinned(self, keys: Sequence[SegmentKey]) -> Iterator[None]:
        """Inside, what is held of ``keys`` is not dropped; what is put there only where the budgets have no room."""
        self._pins.update(keys)
        try:
            yield
        finally:
            self._pins.subtract(keys)
            self._pins += Counter()  # drops those at zero

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
        """Keeps a new slab as the most recently used; the least recently used move to host memory, then are dropped.

        Pinned ones stay: where they leave no room, the new one is not kept. Nor is one of segments that are all held.
        """
        rows = {key: row for row, key in enumerate(keys) if key not in self._slab_of}
        if not rows:
            return
        number, self._next = self._next, self._next + 1
        self._keys[number] = rows
        self._slab_of.update(dict.fromkeys(rows, number))
        self._device[number] = slab
        self._shrink()

    def _shrink(self) -> None:
        while _bytes(self._device) > self.device_bytes:
            number, slab = self._pop(self._device)
            if slab.nbytes <= self._host_bytes:
                self._host[number] = slab.to("cpu")
            else:
                self._forget(number)
        while _bytes(self._host) > self._host_bytes:
            self._forget(self._pop(self._host)[0])

    def _pop(self, tier: OrderedDict[int, PrefixCache]) -> tuple[int, PrefixCache]:
        """The least recently used that is not pinned; where all are, the newest."""
        number = next((one for one in tier if not self._is_pinned(one)), next(reversed(tier)))
        return number, tier.pop(number)

    def _is_pinned(self, number: int) -> bool:
        return any(key in self._pins for key in self._keys[number])

    def _forget(self, number: int) -> None:
        for key in self._keys.pop(number):
            self._slab_of.pop(key)


def _bytes(tier: OrderedDict[int, PrefixCache]) -> int:
    return sum(slab.nbytes for slab in tier.values())
