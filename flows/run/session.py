"""A run from wish to report: library, model and lease are opened, sources are planned and dispatched."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.models import choose_model, identify_model, load_model, model_notice, open_model
from flows.result import IndexResult, RunReport, summarize
from flows.run.discovery import DEFAULT_SETTLE_S, Found, expect_something, find_sources
from flows.run.dispatch import Dispatch
from flows.run.estimate import Estimate, check_space, estimate, model_cost, timed_cost
from flows.run.monitor import Monitor
from flows.run.plan import Known, Plan, make_plan
from flows.run.settle import Settler
from flows.terminal.output import Page
from flows.terminal.progress import RunView
from flows.video.pool import InProcess, Pool
from flows.video.source_frames import decode_source
from flows.video.worker import Worker
from storage import ALL_MODELS, Library, Writer, open_library
from tempo_core.decoding import check_decoder
from tempo_core.errors import LibraryBusy, LibraryNotFound, SchemaError
from tempo_core.spec import PAPER, IndexSpec, named_spec

if TYPE_CHECKING:
    from tempo_core import Checkpoint
    from tempo_core.checkpoint import ModelIdentity

LEASE_WAIT_S = 6 * 3600.0  # another run may take the night
FEW_VIDEOS = 8  # what is over before Ray has started and a model is loaded once more

Say = Callable[[str], None]
Shown = Callable[[IndexResult, Page], None]


@dataclass(frozen=True)
class Wish:
    """What a user asked ``tempo index`` for. ``ray``: auto, off, local, or a cluster's address."""

    sources: tuple[str, ...]
    library: str
    model: str | None = None
    spec: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    settle_s: float = DEFAULT_SETTLE_S
    retry_failed: bool = False
    until: datetime | None = None
    ray: str = "auto"


@dataclass(frozen=True)
class Setting:
    """What a run works with once its wish is understood."""

    wish: Wish
    found: Found
    library: Library
    model: ModelIdentity
    spec: IndexSpec


def run_index(
    wish: Wish, say: Say, shown: Shown, readable: bool = True, checkpoint: Checkpoint | None = None
) -> RunReport:
    """Index what is new; ``shown`` gets each video's result as it is settled. Errors that end the run are raised.

    ``checkpoint``: the model if it is loaded already; then the run stays in this process. ``readable``: ``shown``
    prints lines for people.
    """
    began = time.monotonic()
    found = _found(wish)
    existing = _existing(wish.library, upgrade=True)
    expect_something(found, existing, wish.sources)
    name, spec = _defaults(existing, wish)
    model = checkpoint or identify_model(name)
    if checkpoint is None and (notice := model_notice(name)):
        say(notice)
    setting = Setting(wish, found, open_library(wish.library, create=True), model, spec)
    with _writer(setting.library, wish.until, say) as writer, RunView(readable) as view:
        plan = _plan(wish, found, setting.library, model, spec)
        _expect_room(plan, setting)
        if plan.tasks:
            writer.make_ready(model.fingerprints(spec).features, model.state_hidden)
        monitor = Monitor(len(plan.tasks), sum(task.source.size for task in plan.tasks), [view.update])
        results = []
        with _open_pool(setting, len(plan.tasks), checkpoint) as pool:
            settler = Settler(writer, model.fingerprints(spec))
            for result in Dispatch(pool, settler, monitor, wish.until).results(plan):
                shown(result, view.page)
                results.append(result)
        _serve_when_whole(setting, writer)
    summary = summarize(results, time.monotonic() - began)
    return RunReport(tuple(results), summary, tuple(monitor.kept), monitor.total_spent)


def plan_only(wish: Wish, say: Say) -> tuple[Plan, Estimate]:
    """What ``run_index`` would do, and what it would take. Nothing is written, no library made, no Ray started."""
    found = _found(wish)
    library = _existing(wish.library)
    expect_something(found, library, wish.sources)
    name, spec = _defaults(library, wish)
    checkpoint = load_model(name, say)
    plan = _plan(wish, found, library, checkpoint, spec)
    cost = timed_cost(checkpoint, spec) if plan.tasks else model_cost(checkpoint, spec)
    return plan, estimate(plan.tasks, spec, checkpoint.geometry, cost)


def library_model(library: Library | None) -> str | None:
    """The model the library's default videos were indexed with."""
    record = next(iter(library.videos()), None) if library is not None else None
    return record.facts.model_id if record is not None else None


def _open_pool(setting: Setting, videos: int, checkpoint: Checkpoint | None) -> AbstractContextManager[Pool]:
    """Where this run's videos are worked on; closed with the context, whatever happens."""
    wish = setting.wish
    is_over = wish.until is not None and datetime.now(wish.until.tzinfo) >= wish.until
    if checkpoint is None and not is_over and wants_ray(wish.ray, videos):
        from flows.on_ray.actor import WorkerSetup
        from flows.on_ray.cluster import open_actors

        fingerprints = setting.model.fingerprints(setting.spec)
        setup = WorkerSetup(setting.model.id, setting.library.uri, setting.spec, fingerprints)
        sources = [source.uri for source in setting.found.sources]
        return open_actors(None if wish.ray in {"auto", "local"} else wish.ray, setup, videos, sources)
    return closing(InProcess(lambda: _worker(setting, checkpoint)))


def _worker(setting: Setting, checkpoint: Checkpoint | None) -> Worker:
    check_decoder(setting.spec)
    return Worker(setting.library, checkpoint or open_model(setting.model.id), setting.spec, decode_source)


def wants_ray(ray: str, videos: int) -> bool:
    """``auto``: where there are more videos than are over before Ray is up."""
    return videos > 0 and ray != "off" and (ray != "auto" or videos > FEW_VIDEOS)


def _found(wish: Wish) -> Found:
    return find_sources(wish.sources, wish.include, wish.exclude, wish.settle_s)


def _plan(wish: Wish, found: Found, library: Library | None, model: ModelIdentity, spec: IndexSpec) -> Plan:
    features = model.fingerprints(spec).features
    records = library.videos(ALL_MODELS) if library is not None else []
    failures = library.failures(features) if library is not None else []
    pending = library.pending() if library is not None else []
    return make_plan(found, Known(records, failures, features, pending), wish.retry_failed)


def _expect_room(plan: Plan, setting: Setting) -> None:
    """NoSpace before the first video is begun."""
    if plan.tasks:
        cost = model_cost(setting.model, setting.spec)
        needed = estimate(plan.tasks, setting.spec, setting.model.geometry, cost)
        check_space(needed, setting.library.store.free_bytes(), setting.library.uri)


def _existing(uri: str, upgrade: bool = False) -> Library | None:
    """The library if there is one. ``upgrade``: bring an older schema up to date, as the message about it promises."""
    try:
        return open_library(uri)
    except LibraryNotFound:
        return None
    except SchemaError:
        if not upgrade:
            raise
        return open_library(uri, create=True)


def _defaults(library: Library | None, wish: Wish) -> tuple[str, IndexSpec]:
    """The model and index spec asked for, else those of the library, else embedded and paper."""
    if wish.spec is not None:
        spec = named_spec(wish.spec)
    else:
        record = next(iter(library.videos()), None) if library is not None else None
        spec = record.facts.spec if record is not None else PAPER
    return choose_model(wish.model, library_model(library)), spec


def _writer(library: Library, until: datetime | None, say: Say) -> Writer:
    """Waits for another run to end, but not past the end of the night."""
    try:
        return library.writer()
    except LibraryBusy as error:
        left_s = LEASE_WAIT_S if until is None else (until - datetime.now(until.tzinfo)).total_seconds()
        say(f"{error}; waiting")
        return library.writer(wait_s=max(0.0, min(LEASE_WAIT_S, left_s)))


def _serve_when_whole(setting: Setting, writer: Writer) -> None:
    """The model of this run becomes the library's own when it has every video that the old one has, gone or not."""
    library, features = setting.library, setting.model.fingerprints(setting.spec).features
    old = {record.uri for record in library.videos()}
    new = {record.uri for record in library.videos(features)}
    if new and old <= new and library.default_fingerprint() != features:
        writer.set_default(features)
