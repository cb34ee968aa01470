"""From stored states to KV caches: what no tier holds is read ahead while the device prefills."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from serving.kv_tiers import KvTiers
from serving.segment_states import Kept, SegmentStates
from serving.selection import SelectedSegment
from serving.stopwatch import Stopwatch
from serving.units import Disk, Units, loaded
from tempo_core.prefix_cache import PrefixCache
from tempo_core.router import Router

Group = Sequence[SelectedSegment]
PASS_SLABS = 4  # an hour's segments; a GPU waits for the launches of a pass over fewer


@dataclass(frozen=True)
class Restorer:
    """Hands out KV caches group by group, from the tiers or from the segments' states."""

    states: SegmentStates
    router: Router
    tiers: KvTiers
    disk: Disk

    def restoring(self, groups: Sequence[Group]) -> Restoring:
        """The caches of one question's groups."""
        return Restoring(self, groups)

    def holds(self, group: Group) -> bool:
        return self.tiers.holds([segment.key for segment in group])

    def begin_reading(self, group: Group) -> Future[list[Kept]]:
        return self.disk.begin(partial(self.states.load, group))

    def slab(self, group: Group, kept: list[Kept] | None) -> PrefixCache:
        """The caches of a group: a tier's, else of what is ``kept`` of it, which the tiers keep then if they can."""
        keys = [segment.key for segment in group]
        held = self.tiers.get(keys)
        if held is not None:
            return held
        assert kept is not None
        slab = self.router.prefill(self.states.computed(group, kept))
        self.tiers.put(keys, slab)
        return slab


@dataclass(frozen=True)
class Restoring:
    """One question's groups, asked for in their order. What is kept of at most one group is read ahead."""

    restorer: Restorer
    groups: Sequence[Group]
    ahead: dict[int, Future[list[Kept]]] = field(default_factory=dict)

    def cache(self, position: int, watch: Stopwatch) -> Units[PrefixCache]:
        """The caches of one group."""
        reading, kept = self._reading(position), None
        if reading is not None:
            kept = yield from loaded(reading, watch)
        self._read_ahead(position)
        with watch.step("restore"):
            slab = self.restorer.slab(self.groups[position], kept)
        yield None
        return slab

    def caches(self, first: int, watch: Stopwatch) -> Units[list[PrefixCache]]:
        """Of the groups from ``first`` on, those that share a pass: few, and no more bytes than the tiers keep."""
        slabs: list[PrefixCache] = []
        for position in range(first, min(first + PASS_SLABS, len(self.groups))):
            slabs.append((yield from self.cache(position, watch)))
            if sum(slab.nbytes for slab in slabs) + slabs[-1].nbytes > self.restorer.tiers.device_bytes:
                break
        return slabs

    def _reading(self, position: int) -> Future[list[Kept]] | None:
        """Of a group that no tier holds."""
        ahead = self.ahead.pop(position, None)
        if ahead is None and not self.restorer.holds(self.groups[position]):
            return self.restorer.begin_reading(self.groups[position])
        return ahead

    def _read_ahead(self, position: int) -> None:
        later = range(position + 1, len(self.groups))
        absent = next((i for i in later if not self.restorer.holds(self.groups[i])), None)
        if absent is not None and absent not in self.ahead:
            self.ahead[absent] = self.restorer.begin_reading(self.groups[absent])
