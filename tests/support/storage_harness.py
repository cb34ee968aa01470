"""Small videos made from a number, a run that indexes them as the flow does, and a library's contents to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from storage import (
    ALL_MODELS,
    Library,
    Part,
    Source,
    StagedContent,
    StagedVideo,
    VideoFacts,
    VideoRecord,
    VideoWriter,
    Writer,
    schemas,
)
from storage.filters import quoted
from storage.schemas import CATALOG, FAILURES, segments_table
from tempo_core.errors import LibraryError
from tempo_core.fingerprints import Fingerprints, fingerprints
from tempo_core.sampling import SegmentSpan, sample_frames, segment_spans
from tempo_core.spec import FrameGeometry, IndexSpec, StateDtype
from tempo_core.values import SegmentState, row_bytes

if TYPE_CHECKING:
    import pytest

SPEC = IndexSpec(name="tiny", frames_per_second=2, segment_frames=4)
HIDDEN = 8
FEATURES = 16


def prints_of(vision: str = "vision", text: str = "text", spec: IndexSpec = SPEC) -> Fingerprints:
    """The chain of a model that does not exist."""
    return fingerprints(spec, FrameGeometry(), vision, text, "in one word")


PRINTS = prints_of()


@dataclass(frozen=True)
class TinyVideo:
    """All that indexing computes of a video, as a function of its seed."""

    seed: int
    spans: Sequence[SegmentSpan]
    states: Sequence[SegmentState]
    jpegs: Sequence[list[bytes]]
    times_s: Sequence[list[float]]
    features: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def video_id(self) -> str:
        return video_id(self.seed)


def video_id(seed: int) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


def tiny_video(seed: int, duration_s: int = 5, dtype: StateDtype = "bfloat16", tokens: int = 6) -> TinyVideo:
    """Three segments by default, the last one short."""
    rng = np.random.default_rng(seed)
    sampling = sample_frames(Fraction(duration_s), SPEC)
    spans = segment_spans(sampling, SPEC)
    states = []
    for span in spans:
        pairs = len(span.pair_times_s)
        rows = rng.integers(0, 256, (3, tokens * pairs, row_bytes(HIDDEN, dtype)), dtype=np.uint8)
        states.append(SegmentState(rows, dtype, (pairs, 4, tokens), span.pair_times_s))
    return TinyVideo(
        seed=seed,
        spans=spans,
        states=states,
        jpegs=[[rng.bytes(int(rng.integers(20, 60))) for _ in range(span.count)] for span in spans],
        times_s=[[float(sampling.time_s(span.first + i)) for i in range(span.count)] for span in spans],
        features=rng.normal(size=(len(spans), FEATURES)).astype(np.float32),
    )


def facts_of(video: TinyVideo, spec: IndexSpec = SPEC) -> VideoFacts:
    return VideoFacts(duration_s=video.spans[-1].end_s, width=64, height=48, model_id="tiny", spec=spec)


def source_of(uri: str, seed: int) -> Source:
    """A file that changes whenever its seed does."""
    return Source(uri, 1000 + seed, str(seed))


def fill(writing: VideoWriter, video: TinyVideo) -> None:
    """Everything of a video but the commit, segment by segment."""
    for position, span in enumerate(video.spans):
        writing.add_frames(span.index, video.jpegs[position], video.times_s[position])
        writing.add_state(video.states[position])
    writing.add_features(video.features, video.spans)


def stage(library: Library, video: TinyVideo, prints: Fingerprints = PRINTS) -> StagedContent:
    """A video that only waits for its commit."""
    with library.stage(video.video_id, prints) as writing:
        fill(writing, video)
        return writing.finish()


def commit(writer: Writer, content: StagedContent, source: Source, facts: VideoFacts) -> VideoRecord:
    """Commit one video by itself."""
    (record,) = writer.commit(StagedVideo(content, source, facts))
    return record


def cut_short(library: Library, content: StagedContent) -> None:
    """Leave what a commit leaves that is killed before its upsert: the rows of the segments."""
    rows = schemas.segment_rows(content.segments, content.features, start_s=0.0)
    library.tables.add(segments_table(content.fingerprints.features), rows)


def put(library: Library, writer: Writer, uri: str, seed: int) -> VideoRecord:
    """Index one video as a run does, whatever is there already: stage it, then commit it."""
    video = tiny_video(seed)
    return commit(writer, stage(library, video), source_of(uri, seed), facts_of(video))


def index(library: Library, wanted: Mapping[str, int], wait_s: float = 0.0) -> dict[str, str]:
    """Bring the library to ``wanted`` (URI to seed; below 0: a file that cannot be decoded). URI to what was done.

    New contents share a commit."""
    with library.writer(wait_s) as writer:
        known = {record.uri: record.source for record in library.videos(PRINTS.features)}
        failed = {failure.source.uri: failure.source for failure in library.failures()}
        done, group = {}, dict[int, StagedVideo]()
        for uri, seed in wanted.items():
            source = source_of(uri, seed)
            if seed in group:
                writer.commit(*group.values())
                group.clear()
            if known.get(uri) == source or failed.get(uri) == source:
                done[uri] = "unchanged"
            else:
                done[uri] = _index_one(library, writer, source, seed, group)
        if group:
            writer.commit(*group.values())
    return done


def _index_one(library: Library, writer: Writer, source: Source, seed: int, group: dict[int, StagedVideo]) -> str:
    if seed < 0:
        writer.record_failure(source, PRINTS.features, "no video stream", "decode")
        return "failed"
    content = writer.find_content(video_id(seed), PRINTS)
    if content and content.committed:
        writer.commit_copy(source, content)
        return "duplicate"
    video = tiny_video(seed)
    group[seed] = StagedVideo(stage(library, video), source, facts_of(video))
    return "indexed"


def uris(library: Library, fingerprint: str | None = None) -> list[str]:
    """The sources of a model's videos, in order."""
    return [record.uri for record in library.videos(fingerprint)]


def states_part(record: VideoRecord) -> Part:
    """That of a video whose states are kept."""
    assert record.states_part is not None
    return record.states_part


def part_files(library: Library) -> set[str]:
    """The paths of all parts on the disk."""
    return {file.path for file in library.store.files("parts")}


def note_catalog_rows(library: Library, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URI of each row of the catalog that is read from now on."""
    read: list[str] = []
    rows = library.tables.rows

    def noting(name: str, *given: Any) -> Any:
        answer = rows(name, *given)
        read.extend(row["uri"] for row in answer if name == CATALOG)
        return answer

    monkeypatch.setattr(library.tables, "rows", noting)
    return read


def pruned(library: Library) -> Library:
    """The library once nothing is kept for readers any more, and nothing unneeded is left in it."""
    with library.writer() as writer:
        writer.prune(grace_s=0)
    assert library.verify(grace_s=0) == []
    return library


def contents(library: Library) -> dict[str, Any]:
    """All that a library holds, but for what may differ between two runs: generations and times."""
    catalog = library.videos(ALL_MODELS)
    return {
        "catalog": {_without_run(record) for record in catalog},
        "failures": {replace(one, failed_at=0.0) for one in library.failures()},
        "segments": sorted(row for record in catalog for row in segment_rows(library, record)),
        "bytes": {
            (record.video_id, number): library.store.read_bytes(part.path)
            for record in catalog
            for number, part in enumerate(record.parts)
        },
        "rows": {name: library.tables.count(name) for name in (CATALOG, FAILURES, segments_table(PRINTS.features))},
        "files": len(list(library.store.files("parts"))),
    }


def segment_rows(library: Library, record: VideoRecord) -> list[str]:
    """The rows of a record's generation, as text, without the generation and the checksum over it."""
    where = f"generation = {quoted(record.generation)}"
    rows = library.tables.rows(segments_table(record.fingerprints.features), where)
    return [repr({name: row[name] for name in row if name not in {"generation", "checksum"}}) for row in rows]


def _without_run(record: VideoRecord) -> VideoRecord:
    frames, *states = (replace(part, path="") for part in record.parts)
    return replace(record, generation="", indexed_at=0.0, frames_part=frames, states_part=next(iter(states), None))


def snapshot_faults(library: Library, seeds: Mapping[str, int]) -> list[str]:
    """What a reader sees that no reader may see: half a video, or one mixed of two. ``seeds``: video id to seed."""
    faults = []
    catalog = library.videos(ALL_MODELS)
    generations: dict[str, set[str]] = {}
    for record in catalog:
        generations.setdefault(record.video_id, set()).add(record.generation)
        faults += _record_faults(library, record, seeds)
    faults += [f"{one}: two generations" for one, found in generations.items() if len(found) > 1]
    if len({record.uri for record in catalog}) < len(catalog):
        faults.append("a source is there twice")
    return faults


def _record_faults(library: Library, record: VideoRecord, seeds: Mapping[str, int]) -> list[str]:
    video = tiny_video(seeds[record.video_id])
    if record.source.modified != str(video.seed):
        return [f"{record.uri}: the content of another version"]
    try:
        states = library.read_states(record, verify=True) if record.states_part else video.states
    except LibraryError as error:
        return [str(error)]
    if any((got.rows != made.rows).any() for got, made in zip(states, video.states, strict=True)):
        return [f"{record.uri}: states of another video"]
    frames = [jpegs for _, jpegs, _ in library.read_frames(record)]
    return [] if frames == list(video.jpegs) else [f"{record.uri}: frames of another video"]
