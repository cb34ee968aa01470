"""A run from wish to summary: library, model and lease are opened, sources compared with the catalog, then run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.estimate import Estimate, check_space, estimate, model_cost
from flows.models import choose_model, load_model
from flows.output import Page
from flows.plan import Known, Plan, make_plan
from flows.progress import RunView
from flows.result import IndexResult, RunSummary, summarize
from flows.run import Run
from flows.stage import Indexer
from storage import ALL_MODELS, Library, Source, Writer, discover, open_library, stat_source
from storage.sources import local_path
from tempo_core.decoding import check_ffmpeg
from tempo_core.errors import LibraryBusy, LibraryNotFound, SchemaError, SourceError
from tempo_core.spec import PAPER, IndexSpec, named_spec

if TYPE_CHECKING:
    from tempo_core import Checkpoint

LEASE_WAIT_S = 6 * 3600.0  # another run may take the night

Say = Callable[[str], None]
Shown = Callable[[IndexResult, Page], None]


@dataclass(frozen=True)
class Wish:
    """What a user asked ``tempo index`` for."""

    sources: tuple[str, ...]
    library: str
    model: str | None = None
    spec: str | None = None
    retry_failed: bool = False
    until: datetime | None = None


def run_index(
    wish: Wish,
    say: Say,
    shown: Shown,
    readable: bool = True,
    checkpoint: Checkpoint | None = None,
) -> RunSummary:
    """Index what is new; ``shown`` gets each video's result as it is settled. Errors that end the run are raised.

    ``checkpoint``: the model if it is loaded already. ``readable``: ``shown`` prints lines for people.
    """
    began = time.monotonic()
    found = find_sources(wish.sources)
    existing = _existing(wish.library, upgrade=True)
    _expect_something(found, existing, wish.sources)
    model, spec = _defaults(existing, wish)
    checkpoint = checkpoint or load_model(model, say)
    library = open_library(wish.library, create=True)
    with _writer(library, say) as writer, RunView(spec.segment_frames, readable) as view:
        plan = _plan(wish, found, library, checkpoint, spec)
        if plan.tasks:
            check_ffmpeg()
            cost = model_cost(checkpoint, spec)
            check_space(estimate(plan.tasks, spec, checkpoint.geometry, cost), library.store.free_bytes(), library.uri)
        prints = checkpoint.fingerprints(spec)
        run = Run(Indexer(library, checkpoint, spec), writer, prints, view, wish.until)
        results = []
        for result in run.results(plan):
            shown(result, view.page)
            results.append(result)
        _serve_when_whole(library, writer, prints.features)
    return summarize(results, time.monotonic() - began)


def plan_only(wish: Wish, say: Say) -> tuple[Plan, Estimate]:
    """What ``run_index`` would do, and what it would take. Nothing is written, no library made."""
    found = find_sources(wish.sources)
    library = _existing(wish.library)
    _expect_something(found, library, wish.sources)
    model, spec = _defaults(library, wish)
    checkpoint = load_model(model, say)
    plan = _plan(wish, found, library, checkpoint, spec)
    cost = model_cost(checkpoint, spec, timed=bool(plan.tasks))
    return plan, estimate(plan.tasks, spec, checkpoint.geometry, cost)


def library_model(library: Library | None) -> str | None:
    """The model the library's default videos were indexed with."""
    record = next(iter(library.videos()), None) if library is not None else None
    return record.facts.model_id if record is not None else None


def find_sources(names: Sequence[str]) -> list[Source]:
    """The videos that ``names`` stand for, as they are now.

    One that cannot even be looked at (a dangling link) is kept with no size, so that its turn comes and its reason is
    recorded; it costs no other video.
    """
    found = []
    for uri in discover(names):
        try:
            found.append(stat_source(uri))
        except SourceError:
            found.append(Source(uri, 0, ""))
    return found


def _expect_something(found: Sequence[Source], library: Library | None, names: Sequence[str]) -> None:
    """SourceError where there is no video and never was one: empty folders, more likely a slip than a wish."""
    roots = tuple(_roots(names))
    known = library.videos(ALL_MODELS) if library is not None else []
    if not found and not any(record.uri.startswith(roots) for record in known):
        raise SourceError(f"{', '.join(names)}: no video there; name a folder with videos, or files")


def _plan(
    wish: Wish, found: Sequence[Source], library: Library | None, checkpoint: Checkpoint, spec: IndexSpec
) -> Plan:
    features = checkpoint.fingerprints(spec).features
    records = library.videos(ALL_MODELS) if library is not None else []
    failures = library.failures(features) if library is not None else []
    return make_plan(found, Known(records, failures, features), _roots(wish.sources), wish.retry_failed)


def _roots(names: Sequence[str]) -> list[str]:
    """Beginnings of the URIs below the folders that were named: what is missing there is gone."""
    roots = []
    for name in names:
        if name.startswith("s3://"):
            roots.append(name.rstrip("/") + "/")
        elif (path := local_path(name)).is_dir():
            roots += [f"{path}/", f"{path.as_uri()}/"]
    return roots


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


def _writer(library: Library, say: Say) -> Writer:
    try:
        return library.writer()
    except LibraryBusy as error:
        say(f"{error}; waiting")
        return library.writer(wait_s=LEASE_WAIT_S)


def _serve_when_whole(library: Library, writer: Writer, features: str) -> None:
    """The model of this run becomes the library's own when it has every video that the old one has."""
    old = {record.uri for record in library.videos()}
    new = {record.uri for record in library.videos(features)}
    if new and old <= new and library.default_fingerprint() != features:
        writer.set_default(features)
