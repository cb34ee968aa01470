"""Held-out videos of the nano world with their questions, and the way from a file to segment states.

Everything follows from the seed. The way is the stage's own (decoding, kept JPEG, pixels, vision tower) without a
library, so that nothing but torch, transformers, av, ffmpeg-python, Pillow and an ffmpeg is needed.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from nano.phrasings import KINDS, PHRASINGS, WHOLE_KINDS, Kind
from nano.questions import Question, Sought, asked_in, draw_question
from nano.video_file import write_video
from nano.world import COLOURS, LONGEST_ROW, SHAPES, SHORT_SCENE_S, Habits, Script, draw_script
from tempo_core import Checkpoint
from tempo_core.decoding import probe, read_segments
from tempo_core.pixels import encode_jpeg, kept_pixels
from tempo_core.sampling import segment_spans
from tempo_core.spec import PAPER, FrameGeometry, StateDtype
from tempo_core.values import SegmentPixels, SegmentState

SEED = 920_26
# (scenes, seconds of one): from a minute to an hour
LENGTHS = (
    *((scenes, SHORT_SCENE_S) for scenes in (16, 32, 64, LONGEST_ROW)),
    *((LONGEST_ROW, scene_s) for scene_s in (8, 16, 28)),
)
BUSY, QUIET = Habits(), Habits(quiet=0.85, common=0.5)  # in a quiet one nearly nothing happens
NOVEL_PHRASINGS = 0.3
NAMING: tuple[Kind, ...] = ("count", "motion", "happen", "when", "after", "times")  # that name a shape in its colour
_TRIES = 8
_BATCH_SEGMENTS = 16  # as the stage's encoder


@dataclass(frozen=True)
class HeldOutVideo:
    """A video that no training run drew, and what is asked about it."""

    number: int
    script: Script
    questions: tuple[Question, ...]
    is_quiet: bool = False

    @property
    def length(self) -> str:
        """Scenes x seconds."""
        return f"{len(self.script.scenes)}x{self.script.scene_s}"


@dataclass(frozen=True)
class VideoPixels:
    """A file's segments before the model, and the times of their tags."""

    segments: tuple[SegmentPixels, ...]
    tag_times_s: tuple[float, ...]


@dataclass(frozen=True)
class VideoStates:
    """A file's segments as they would be stored, and the times of their tags."""

    states: tuple[SegmentState, ...]
    tag_times_s: tuple[float, ...]


def held_out_videos(
    questions: int,
    per_video: int = 9,
    seed: int = SEED,
    lengths: Sequence[tuple[int, int]] = LENGTHS,
    kinds: Sequence[Kind] = KINDS,
) -> list[HeldOutVideo]:
    """As many videos as hold that many questions, the lengths in turn, all of ``kinds`` equally often.

    Where whole videos are asked about, every other one is made of few shapes and colours.
    """
    few = any(kind in WHOLE_KINDS for kind in kinds)
    videos: list[HeldOutVideo] = []
    asked = 0
    while asked < questions:
        number = len(videos)
        rng = random.Random(f"{seed}/{number}")
        round_number, place = divmod(number, len(lengths))
        script = _script(rng, round_number, lengths[place], is_sparing=few and number % 2 == 0)
        turn = asked % len(kinds)
        drawn = _questions(rng, script, min(per_video, questions - asked), [*kinds[turn:], *kinds[:turn]])
        videos.append(HeldOutVideo(number, script, drawn, is_quiet=_is_quiet(round_number)))
        asked += len(drawn)
    return videos


def pixels_of_video(geometry: FrameGeometry, path: Path) -> VideoPixels:
    """Decoded, kept as JPEG, decoded again: what the model sees of a file."""
    info = probe(path)
    spans = segment_spans(info.sampling(PAPER), PAPER)
    with read_segments(path, info, PAPER, geometry, threads=2) as reader:
        kept = [encode_jpeg(segment.pixels, PAPER.jpeg_quality) for segment in reader]
    pixels = [kept_pixels(jpegs, span.pair_times_s) for jpegs, span in zip(kept, spans, strict=True)]
    return VideoPixels(tuple(pixels), tuple(span.tag_time_s for span in spans))


def encoded(checkpoint: Checkpoint, video: VideoPixels, state_dtype: StateDtype | None = None) -> VideoStates:
    """The vision tower over all segments."""
    states: list[SegmentState] = []
    for start in range(0, len(video.segments), _BATCH_SEGMENTS):
        batch = video.segments[start : start + _BATCH_SEGMENTS]
        states += checkpoint.router.encode(batch, state_dtype=state_dtype)
    return VideoStates(tuple(states), video.tag_times_s)


def read_videos(
    videos: Sequence[HeldOutVideo], geometry: FrameGeometry, folder: Path
) -> Iterator[tuple[HeldOutVideo, VideoPixels]]:
    """Each video's file, made in ``folder`` unless it is there, and decoded; ahead of the taker, in order."""
    workers, spawn = max(1, (os.cpu_count() or 1) - 1), get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,))
    try:
        ahead: list[Future[VideoPixels]] = []
        rest = iter(videos)
        for video in videos:
            while len(ahead) < 2 * workers and (later := next(rest, None)) is not None:
                ahead.append(pool.submit(_made_and_read, later, geometry, folder))
            yield video, ahead.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)


def say(began: float, done: int, total: int, what: str) -> None:
    """A line of progress, now and then."""
    if done == total or done % max(1, total // 10) == 0:
        print(f"  {done}/{total} {what}, {time.monotonic() - began:.0f} s", flush=True)


def absent_questions(video: HeldOutVideo, count: int, seed: int = SEED) -> list[str]:
    """About shapes in colours that the video does not show them in: of all kinds that name both, in all phrasings."""
    rng = random.Random(f"{seed}/{video.number}/absent")
    shown = {(scene.thing, scene.colour) for scene in video.script.scenes}
    pairs = [(thing, colour) for thing in SHAPES for colour in COLOURS if (thing, colour) not in shown]
    found = []
    for thing, colour in rng.sample(pairs, min(count, len(pairs))):
        kind, is_novel, sought = rng.choice(NAMING), rng.random() < NOVEL_PHRASINGS, Sought(thing, colour)
        found.append(asked_in(PHRASINGS[kind][-1] if is_novel else rng.choice(PHRASINGS[kind][:-1]), sought))
    return found


def _made_and_read(video: HeldOutVideo, geometry: FrameGeometry, folder: Path) -> VideoPixels:
    digest = hashlib.sha256(repr(video.script).encode()).hexdigest()[:8]  # another world is another file
    path = folder / f"nano-{video.number:04d}-{video.length}-{digest}.mp4"
    if not path.exists():
        write_video(video.script, path)
    pixels = pixels_of_video(geometry, path)
    assert len(pixels.segments) == len(video.script.scenes), f"{path}: segments are not scenes"
    return pixels


def _is_quiet(round_number: int) -> bool:
    return round_number % 4 >= 2


def _script(rng: random.Random, round_number: int, length: tuple[int, int], is_sparing: bool) -> Script:
    """Every other round of lengths shows what training never did; of every four, two are quiet."""
    habits = QUIET if _is_quiet(round_number) else BUSY
    return draw_script(rng, *length, replace(habits, with_held_out=round_number % 2 == 1, is_sparing=is_sparing))


def _questions(rng: random.Random, script: Script, count: int, kinds: Sequence[Kind]) -> tuple[Question, ...]:
    """One of each kind in turn, less those that the script does not allow and repetitions."""
    drawn: dict[str, Question] = {}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        novel = rng.random() < NOVEL_PHRASINGS
        tries = (draw_question(rng, script, kind, novel_phrasing=novel) for _ in range(_TRIES))
        question = next((one for one in tries if one is not None and one.text not in drawn), None)
        if question is not None:
            drawn[question.text] = question
    return tuple(drawn.values())
