"""One run of ``tempo index``: request -> sources -> plan -> workers -> commits -> report.

discover  the videos that the sources name now, and those that are still being written
identify  the model and the index spec: those asked for, else the library's
room      whether the library's disk can hold what is new: a few files are scanned to estimate it
lease     the right to write, which one run has at a time; after a wait for it, discover and identify again
plan      what is new, changed, gone or left out, by the catalog alone: no file is opened
dispatch  workers stage videos, and this process commits them as they become whole, short ones together
promote   the model becomes the library's default once it has every video that the old one has
budget    states asked about least recently are dropped, where the library holds more of them than it may
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.models import ModelChoice, choose_models, identify_model, model_notice, open_model
from flows.reporter import Reporter
from flows.request import IndexRequest
from flows.result import IndexResult, RunReport, dropped_states, summarize
from flows.run.discovery import Discovered, expect_something, find_sources
from flows.run.dispatch import Dispatch
from flows.run.estimate import Estimate, check_space, estimate, model_cost, timed_cost
from flows.run.monitor import Monitor
from flows.run.plan import Known, Plan, make_plan
from flows.run.settle import Settler
from flows.video.pool import InProcess, Pool
from flows.video.source_frames import decode_source
from flows.video.worker import Worker
from storage import ALL_MODELS, Library, Writer, open_library
from tempo_core.decoding import check_decoder
from tempo_core.errors import LibraryBusy, LibraryNotFound, LibraryOutdated
from tempo_core.fingerprints import Fingerprints
from tempo_core.spec import PAPER, IndexSpec, Keep, named_spec

if TYPE_CHECKING:
    from tempo_core import Checkpoint
    from tempo_core.model_identity import ModelIdentity

LEASE_WAIT_S = 6 * 3600.0  # another run may take the night
FEW_VIDEOS = 8  # indexed in this process before Ray has started and a model is loaded once more


@dataclass(frozen=True)
class _Target:
    """What a run indexes into, and as what."""

    library: Library
    model: ModelIdentity
    spec: IndexSpec
    keep: Keep

    @property
    def fingerprints(self) -> Fingerprints:
        return self.model.fingerprints(self.spec)


class IndexRun:
    """A run that was asked for now: its end is counted from here, also where ``run`` is called again after an error.

    ``checkpoint``: the model if it is loaded already; then all work is done in this process.
    """

    def __init__(self, request: IndexRequest, reporter: Reporter, checkpoint: Checkpoint | None = None) -> None:
        self._request, self._reporter, self._checkpoint = request, reporter, checkpoint
        self._ends_at = request.ends_at(datetime.now().astimezone())
        self._model: str | None = None  # of which the user was told what there is to know

    def run(self) -> RunReport:
        """Index what is new. An error that ends the run is raised; what was committed before it stays."""
        began = time.monotonic()
        self._notice_if_over()
        existing = self._existing_library(upgrade=True)
        discovered = self._discover(existing)
        self._notice_passed_over(discovered)
        target = self._identify(existing)
        self._check_room(discovered, target)
        with self._lease(target.library) as (writer, waited):
            if waited:  # the other run may have taken hours, and made another model or spec the default
                discovered, target = self._discover(target.library), self._identify(target.library)
            if self._request.keep is not None:
                writer.set_keep(self._request.keep)
            plan = self._plan(discovered, target)
            monitor = self._monitor(plan)
            results = list(self._dispatch(plan, target, writer, monitor))
            _promote(target, writer)
            self._keep_to_budget(writer)
        summary = summarize(results, time.monotonic() - began)
        return RunReport(tuple(results), summary, tuple(monitor.kept))

    def plan_only(self) -> tuple[Plan, Estimate]:
        """What ``run`` would do, and what it would take. Nothing is written, no library made, no Ray started."""
        library = self._existing_library()
        discovered = self._discover(library)
        self._notice_passed_over(discovered)
        model, spec = self._model_and_spec(library)
        plan = self._make_plan(discovered, library, model.fingerprints(spec))
        keep = self._keep(library)
        if not plan.tasks:
            return plan, estimate(plan.tasks, spec, model.geometry, model_cost(model, spec, keep))
        cost = timed_cost(open_model(self._choice(model)), spec, keep)
        return plan, estimate(plan.tasks, spec, model.geometry, cost)

    def _notice_if_over(self) -> None:
        """A run that only lists what it would have done surprises less."""
        if self._is_over():
            self._reporter.notice(
                f"{self._ends_at:%H:%M} is over, so no video is begun; to work until tomorrow's, give --max-hours"
            )

    def _notice_passed_over(self, discovered: Discovered) -> None:
        if discovered.passed_over is not None:
            self._reporter.notice(discovered.passed_over)

    def _is_over(self) -> bool:
        return self._ends_at is not None and datetime.now(self._ends_at.tzinfo) >= self._ends_at

    def _existing_library(self, upgrade: bool = False) -> Library | None:
        """The library if there is one. ``upgrade``: bring an older schema up to date, as its error promises."""
        try:
            return open_library(self._request.library)
        except LibraryNotFound:
            return None
        except LibraryOutdated:
            if not upgrade:
                raise
            return open_library(self._request.library, create=True)

    def _discover(self, library: Library | None) -> Discovered:
        request = self._request
        discovered = find_sources(request.sources, request.include, request.exclude, request.settle_s)
        expect_something(discovered, library, request.sources)
        return discovered

    def _identify(self, existing: Library | None) -> _Target:
        """Everything that may be wrong with the request is known before the library is made."""
        model, spec = self._model_and_spec(existing)
        keep = self._keep(existing)
        return _Target(existing or open_library(self._request.library, create=True), model, spec, keep)

    def _model_and_spec(self, library: Library | None) -> tuple[ModelIdentity, IndexSpec]:
        """Those asked for, else the library's; the user is told what there is to know of the model."""
        spec = self._spec(library)
        if self._checkpoint is not None:
            return self._checkpoint, spec
        choice = choose_models(self._request.model, self._request.features, library)
        model = identify_model(choice)
        self._notice_model(choice.model)
        return model, spec

    def _notice_model(self, name: str) -> None:
        """Once, but for another model that the library has by default after a wait."""
        if name != self._model and (text := model_notice(name)):
            self._reporter.notice(text)
        self._model = name

    def _choice(self, model: ModelIdentity) -> ModelChoice:
        """The model by its names, and which of them are the user's choice, not only what the library names."""
        features = None if model.features is None else model.features.id
        named = {model.id} if self._request.model else set()
        named |= {features} if self._request.features and features else set()
        return ModelChoice(model.id, features, frozenset(named))

    def _spec(self, library: Library | None) -> IndexSpec:
        """The index spec asked for, else that of the library's default videos, else ``paper``."""
        if self._request.spec is not None:
            return named_spec(self._request.spec)
        model = library.default_model() if library is not None else None
        return PAPER if model is None else model.spec

    def _keep(self, library: Library | None) -> Keep:
        """What is asked to be kept of a video, else what the last run was asked to keep, else states."""
        if self._request.keep is not None:
            return self._request.keep
        return "states" if library is None else library.manifest().keep

    @contextmanager
    def _lease(self, library: Library) -> Iterator[tuple[Writer, bool]]:
        """The writer, and whether another run had to end first. It is not waited for past the end of the night."""
        waited = False
        try:
            writer = library.writer()
        except LibraryBusy as busy:
            self._reporter.notice(f"{busy}; waiting")
            writer, waited = library.writer(wait_s=self._lease_wait_s()), True
        with writer:
            yield writer, waited

    def _lease_wait_s(self) -> float:
        if self._ends_at is None:
            return LEASE_WAIT_S
        left_s = (self._ends_at - datetime.now(self._ends_at.tzinfo)).total_seconds()
        return max(0.0, min(LEASE_WAIT_S, left_s))

    def _plan(self, discovered: Discovered, target: _Target) -> Plan:
        return self._make_plan(discovered, target.library, target.fingerprints)

    def _make_plan(self, discovered: Discovered, library: Library | None, fingerprints: Fingerprints) -> Plan:
        features = fingerprints.features
        records = library.videos(ALL_MODELS) if library is not None else []
        failures = library.failures(features) if library is not None else []
        pending = library.pending() if library is not None else []
        return make_plan(discovered, Known(records, failures, features, pending), self._request.retry_failed)

    def _check_room(self, discovered: Discovered, target: _Target) -> None:
        """NoSpace before the lease is taken: it takes a plan and a few scans, so only where room has an end."""
        free_bytes = target.library.store.free_bytes()
        if free_bytes is None:
            return
        if tasks := self._plan(discovered, target).tasks:
            cost = model_cost(target.model, target.spec, target.keep)
            check_space(estimate(tasks, target.spec, target.model.geometry, cost), free_bytes, target.library.uri)

    def _monitor(self, plan: Plan) -> Monitor:
        source_bytes = sum(task.source.size for task in plan.tasks)
        return Monitor(len(plan.tasks), source_bytes, [self._reporter.snapshot])

    def _dispatch(self, plan: Plan, target: _Target, writer: Writer, monitor: Monitor) -> Iterator[IndexResult]:
        with self._open_pool(plan, target) as pool:
            settler = Settler(writer, target.fingerprints, self._choice(target.model).features)
            for result in Dispatch(pool, settler, monitor, self._ends_at).results(plan):
                self._reporter.settled(result)
                yield result

    def _keep_to_budget(self, writer: Writer) -> None:
        """What was dropped by an earlier run is freed as soon as this one drops more: the disk is about to need it."""
        dropped = writer.keep_to_budget()
        if dropped.videos:
            self._reporter.notice(dropped_states(dropped))
            writer.prune()

    def _open_pool(self, plan: Plan, target: _Target) -> AbstractContextManager[Pool]:
        """The workers of this run, which end with the context."""
        ray, videos = self._request.ray, len(plan.tasks)
        if self._checkpoint is None and not self._is_over() and wants_ray(ray, videos):
            from flows.on_ray.actor import WorkerSetup
            from flows.on_ray.cluster import open_actors

            models, library = self._choice(target.model), target.library.uri
            setup = WorkerSetup(models, library, target.spec, target.keep, target.fingerprints)
            sources = [task.source.uri for task in plan.tasks]
            return open_actors(None if ray in {"auto", "local"} else ray, setup, videos, sources)
        return closing(InProcess(lambda: self._worker(target)))

    def _worker(self, target: _Target) -> Worker:
        check_decoder(target.spec)
        checkpoint = self._checkpoint or open_model(self._choice(target.model))
        return Worker(target.library, checkpoint, target.spec, target.keep, decode_source)


def wants_ray(ray: str, videos: int) -> bool:
    """Whether so many videos are fanned out on Ray; ``auto``: if one process would not be done before Ray is up."""
    return videos > 0 and ray != "off" and (ray != "auto" or videos > FEW_VIDEOS)


def _promote(target: _Target, writer: Writer) -> None:
    """Serve this run's model by default once it has every video that the default has, gone or not."""
    library, features = target.library, target.fingerprints.features
    served = library.default_fingerprint()
    if served == features:
        return
    sources: dict[str, set[str]] = defaultdict(set)
    for record in library.videos(ALL_MODELS):
        sources[record.fingerprints.features].add(record.uri)
    if features in sources and sources[str(served)] <= sources[features]:
        writer.set_default(features)
