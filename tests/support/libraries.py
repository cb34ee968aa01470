"""Small real libraries for tests of the query side: random pictures, real states, no decoding."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from storage import Library, Source, StagedVideo, VideoFacts, VideoRecord
from tempo_core.pixels import encode_jpeg, kept_pixels
from tempo_core.sampling import Sampling, SegmentSpan, sample_frames, segment_spans
from tempo_core.spec import PAPER, IndexSpec

if TYPE_CHECKING:
    from tempo_core.checkpoint_parts import Checkpoint

HEIGHT, WIDTH = 64, 96


def add_video(
    library: Library,
    checkpoint: Checkpoint,
    name: str,
    seconds: int = 20,
    spec: IndexSpec = PAPER,
    start_s: float = 0.0,
    warnings: tuple[str, ...] = (),
) -> VideoRecord:
    """Commits a video of random pictures: 2 frames a second, 8 of them a segment."""
    sampling = sample_frames(Fraction(seconds), spec)
    spans = segment_spans(sampling, spec)
    pictures = np.random.default_rng(len(name) + seconds).integers(
        0, 256, (sampling.count, HEIGHT, WIDTH, 3), dtype=np.uint8
    )
    kept = [encode_jpeg(pictures[span.first : span.first + span.count], 80) for span in spans]
    pixels = [kept_pixels(jpegs, span.pair_times_s) for jpegs, span in zip(kept, spans, strict=True)]
    states = checkpoint.router.encode(pixels, state_dtype=spec.state_dtype)
    with library.writer(wait_s=10) as writer:
        with library.stage(hashlib.sha256(name.encode()).hexdigest(), checkpoint.fingerprints(spec)) as video:
            for span, jpegs in zip(spans, kept, strict=True):
                video.add_frames(span.index, jpegs, _times_s(sampling, span))
            for state in states:
                video.add_state(state)
            video.add_features(checkpoint.featurer.features(states), spans)
            facts = VideoFacts(
                duration_s=float(seconds),
                width=WIDTH,
                height=HEIGHT,
                model_id=checkpoint.id,
                spec=spec,
                start_s=start_s,
                warnings=warnings,
            )
            source = Source(f"/archive/{name}.mp4", 1000, "1")
            (record,) = writer.commit(StagedVideo(video.finish(), source, facts))
            return record


def drop_states(library: Library) -> None:
    """Only frames are kept from now on of all that the library has."""
    with library.writer() as writer:
        writer.set_states_budget(0)
        writer.keep_to_budget()
        writer.prune(grace_s=0)


def _times_s(sampling: Sampling, span: SegmentSpan) -> list[float]:
    """When a segment's frames are shown."""
    return [float(sampling.time_s(i)) for i in range(span.first, span.first + span.count)]
