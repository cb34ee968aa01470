"""What the experiments on the nano world share: their options, the loaded model, the loop over held-out questions."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.batched_answers import ANSWER_TOKENS, BatchedAnswers, WholePrompt, whole_prompt
from benchmarks.nano_videos import LENGTHS, SEED, HeldOutVideo, VideoPixels, held_out_videos, read_videos, say
from flows.embedded import embedded_folder
from tempo_core import Checkpoint, PrefixCache, load_checkpoint
from tempo_core.prefix_cache import QuestionCache
from tempo_core.tempo_checkpoint import TempoCheckpoint, require_tempo

_GPU_BATCH_SEGMENTS = 256  # a small model waits for launches: larger batches than the published one's


def add_options(parser: argparse.ArgumentParser, questions: int) -> None:
    """The options that every experiment has."""
    parser.add_argument("--model", help="folder or hub id of the checkpoint (default: the embedded one)")
    parser.add_argument("--questions", type=int, default=questions)
    parser.add_argument("--per-video", type=int, default=9, help="questions a video (default 9: one of each kind)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the held-out videos")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--videos", type=Path, help="where the files are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--skip", type=int, default=0, help="videos to leave out, as another run had them")
    parser.add_argument("--minutes", type=float, default=math.inf, help="then end with what was asked by then")


@dataclass
class VideoSetting:
    """A loaded model and its held-out videos. ``began``: when the clock started. ``taken``: videos by now."""

    checkpoint: Checkpoint
    videos: list[HeldOutVideo]
    options: argparse.Namespace
    answers: BatchedAnswers
    began: float = field(default_factory=time.monotonic)
    taken: int = 0

    def read(self) -> Iterator[tuple[HeldOutVideo, VideoPixels]]:
        """Each video and its decoded segments."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.options.videos or Path(scratch)
            for done, pair in enumerate(read_videos(self.videos, self.checkpoint.geometry, folder), start=1):
                if time.monotonic() - self.began > 60 * self.options.minutes:
                    return
                self.taken = done
                yield pair
                say(self.began, done, len(self.videos), "videos")

    def about(self) -> dict[str, object]:
        """What a result file says of its run."""
        device = torch.cuda.get_device_name() if self.options.device.startswith("cuda") else "cpu"
        return {
            "vision_sha256": self.checkpoint.vision_sha256,
            "text_sha256": self.checkpoint.text_sha256,
            "device": device,
            "dtype": self.options.dtype,
            "seed": self.options.seed,
            "skipped": self.options.skip,
            "videos": self.taken,
            "questions": sum(len(video.questions) for video in self.videos[: self.taken]),
            "seconds": round(time.monotonic() - self.began, 1),
        }


@dataclass
class Setting(VideoSetting):
    """One of a model with memory tokens."""

    checkpoint: TempoCheckpoint

    def about(self) -> dict[str, object]:
        return {**super().about(), "memory_tokens": self.checkpoint.compressor.max_memory_tokens}


def load_model(options: argparse.Namespace) -> Checkpoint:
    """With larger forward passes on a GPU."""
    checkpoint = load_checkpoint(options.model or embedded_folder(), device=options.device, dtype=options.dtype)
    if options.device.startswith("cuda"):
        checkpoint.router._batch = _GPU_BATCH_SEGMENTS
    return checkpoint


def open_setting(options: argparse.Namespace, lengths: Sequence[tuple[int, int]] = LENGTHS) -> Setting:
    """Loads the model and draws the videos."""
    checkpoint = require_tempo(load_model(options))
    videos = held_out_videos(options.questions, options.per_video, options.seed, lengths)[options.skip :]
    return Setting(checkpoint, videos, options, BatchedAnswers(checkpoint.answerer))


def ask_whole(
    checkpoint: TempoCheckpoint, prefix: PrefixCache, question: str, tag_times_s: tuple[float, ...]
) -> tuple[QuestionCache, list[torch.Tensor], WholePrompt]:
    """The reading, all memory tokens of all segments, and the prompt with them."""
    compressor = checkpoint.compressor
    read = compressor.read(prefix, question)
    memory = compressor.compress(read, question, [compressor.max_memory_tokens] * len(read))
    return read, memory, whole_prompt(checkpoint.answerer, question, tag_times_s, memory)


@dataclass
class Check:
    """How many batched answers equal ``Answerer.generate``'s, among the ``of`` that were compared."""

    wanted: int = 20
    same: int = 0
    of: int = 0

    def compare(
        self,
        checkpoint: TempoCheckpoint,
        question: str,
        tag_times_s: tuple[float, ...],
        memory: list[torch.Tensor],
        told: str,
    ) -> None:
        """One more, until enough were compared. On a CPU in float32 they must be equal; elsewhere a near tie may fall
        otherwise, and the count tells.
        """
        if self.of >= self.wanted:
            return
        counts = np.array([len(tokens) for tokens in memory])
        kept = counts.nonzero()[0]
        tags, tokens = [tag_times_s[index] for index in kept], [memory[index] for index in kept]
        alone = checkpoint.answerer.generate(question, tags, tokens, max_new_tokens=ANSWER_TOKENS)
        self.of += 1
        self.same += alone.text.strip() == told
        weight = checkpoint.answerer._embed.weight
        is_exact = weight.dtype == torch.float32 and weight.device.type == "cpu"
        assert alone.text.strip() == told or not is_exact, f"{question}: {alone.text!r} alone, {told!r} in a batch"
