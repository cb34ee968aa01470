"""From stored states to KV caches: what no tier holds is read ahead in a thread while the device prefills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

from serving.kv_tiers import KvTiers
from serving.selection import SelectedSegment
from serving.stopwatch import Stopwatch
from storage import Library
from tempo_core.prefix_cache import PrefixCache
from tempo_core.router import Router
from tempo_core.values import SegmentState

Group = Sequence[SelectedSegment]


class Restorer:
    """Hands out KV caches group by group, from the tiers or from the library's states."""

    def __init__(self, library: Library, router: Router, tiers: KvTiers) -> None:
        self._library = library
        self._router = router
        self._tiers = tiers

    def caches(self, groups: Sequence[Group], watch: Stopwatch) -> Iterator[tuple[int, PrefixCache]]:
        """(position in ``groups``, caches) in order. At most one group's states are read ahead."""
        absent = [i for i, group in enumerate(groups) if not self._tiers.holds([segment.key for segment in group])]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-states") as reader:
            pending: dict[int, Future[list[SegmentState]]] = {}
            self._read_ahead(reader, groups, absent, pending)
            for position, group in enumerate(groups):
                with watch.step("load"):
                    states = pending.pop(position).result() if position in pending else None
                    self._read_ahead(reader, groups, [i for i in absent if i > position], pending)
                with watch.step("restore"):
                    cache = self._cache(group, states)
                yield position, cache

    def _read_ahead(
        self,
        reader: ThreadPoolExecutor,
        groups: Sequence[Group],
        absent: Sequence[int],
        pending: dict[int, Future[list[SegmentState]]],
    ) -> None:
        if absent and not pending:
            pending[absent[0]] = reader.submit(self._states, groups[absent[0]])

    def _cache(self, group: Group, states: list[SegmentState] | None) -> PrefixCache:
        keys = [segment.key for segment in group]
        held = self._tiers.get(keys)
        if held is not None:
            return held
        slab = self._router.prefill(states if states is not None else self._states(group))
        self._tiers.put(keys, slab)
        return slab

    def _states(self, group: Group) -> list[SegmentState]:
        """Read per video: segments that lie side by side in a part are one range read."""
        states: list[SegmentState] = []
        for _, members in groupby(group, key=lambda segment: segment.video.video_id):
            same_video = list(members)
            records = [segment.record for segment in same_video]
            states += self._library.read_states(same_video[0].video, segments=records)
        return states
