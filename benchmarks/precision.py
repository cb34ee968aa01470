"""What smaller states and KV caches cost in accuracy, on held-out nano videos, with all memory tokens.

    python -m benchmarks.precision --questions 500 --device cuda --out benchmarks/results/precision-h100.json

States are kept as float32, bfloat16, int8 and int4 (a scale a token), KV caches of the prefixes as bfloat16 and as
8-bit floats (E4M3), plain or with a scale per token and head. Everything else is the same; the score difference is the
mean over segments and questions to float32 states with KV caches as computed. Bytes are those of an hour's video
(1,024 frames, 128 segments).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from benchmarks.nano_setting import Check, Setting, add_options, ask_whole, open_setting
from benchmarks.nano_videos import HeldOutVideo, VideoPixels, encoded
from benchmarks.relevance_stats import wilson
from benchmarks.result_files import write_results
from benchmarks.tables import table
from nano.world import LONGEST_ROW
from tempo_core import PrefixCache
from tempo_core.greedy import Prompt
from tempo_core.spec import StateDtype
from tempo_core.values import FloatArray, SegmentState

_SCALE_BYTES = 4
_E4M3_MOST = 448.0
_INT4_MOST = 7


@dataclass(frozen=True)
class Variant:
    """A way to keep states and KV caches. ``kv_bytes``: bytes of a number; ``kv_scale_bytes``: of a token and head."""

    states: str = "float32"
    kv: str = "as computed"
    round_kv: Callable[[torch.Tensor], torch.Tensor] | None = None
    kv_bytes: int | None = None
    kv_scale_bytes: int = 0


def to_bfloat16(kv: torch.Tensor) -> torch.Tensor:
    """Rounded to bfloat16, as it was typed."""
    return kv.to(torch.bfloat16).to(kv.dtype)


def to_fp8(kv: torch.Tensor) -> torch.Tensor:
    """Rounded to E4M3 without any scale; beyond its range, to its end."""
    return kv.clamp(-_E4M3_MOST, _E4M3_MOST).to(torch.float8_e4m3fn).to(kv.dtype)


def to_scaled_fp8(kv: torch.Tensor) -> torch.Tensor:
    """Rounded to E4M3, each token's vector of a head scaled to its range: ``kv`` [..., tokens, head size]."""
    scale = (kv.float().abs().amax(dim=-1, keepdim=True) / _E4M3_MOST).clamp_min(torch.finfo(torch.float32).tiny)
    return ((kv.float() / scale).to(torch.float8_e4m3fn).float() * scale).to(kv.dtype)


VARIANTS = (
    Variant(),
    Variant("bfloat16"),
    Variant("int8"),
    Variant("int4"),
    Variant(kv="bfloat16", round_kv=to_bfloat16, kv_bytes=2),
    Variant(kv="fp8", round_kv=to_fp8, kv_bytes=1),
    Variant(kv="fp8, scaled", round_kv=to_scaled_fp8, kv_bytes=1, kv_scale_bytes=_SCALE_BYTES),
    Variant("int8", "fp8, scaled", to_scaled_fp8, 1, _SCALE_BYTES),
)


@dataclass
class Tally:
    """What is counted of a variant. ``told``: every answer, ``difference``: mean score difference of each question."""

    right: list[bool] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    state_bytes: int = 0
    kv_bytes: int = 0


def kept_states(setting: Setting, pixels: VideoPixels, states: str) -> tuple[list[SegmentState], int]:
    """A video's states as that variant gives them back, and the bytes it keeps for them."""
    dtypes: dict[str, StateDtype] = {"float32": "float32", "bfloat16": "bfloat16", "int8": "int8"}
    found = list(encoded(setting.checkpoint, pixels, dtypes.get(states, "float32")).states)
    if states != "int4":
        return found, sum(state.nbytes for state in found)
    tokens = sum(int(np.prod(state.rows.shape[:2])) for state in found)
    return [to_int4(state) for state in found], tokens * (-(-found[0].hidden_size // 2) + _SCALE_BYTES)


def to_int4(state: SegmentState) -> SegmentState:
    """float32 states rounded to whole numbers of -7..7 times a scale a token."""
    visual = state.visual
    scale = np.maximum(np.abs(visual).max(axis=-1, keepdims=True) / _INT4_MOST, np.finfo(np.float32).tiny)
    rounded = (np.round(visual / scale) * scale).astype(np.float32)
    return replace(state, rows=np.ascontiguousarray(rounded).view(np.uint8))


def kept_prefix(prefix: PrefixCache, variant: Variant) -> tuple[PrefixCache, int]:
    """The KV caches as that variant gives them back, and their bytes."""
    width = prefix.kv.shape[-1]
    vectors = prefix.kv.numel() // width
    size = vectors * (width * (variant.kv_bytes or prefix.kv.element_size()) + variant.kv_scale_bytes)
    if variant.round_kv is None:
        return prefix, size
    return PrefixCache(variant.round_kv(prefix.kv), prefix.lengths, prefix.next_positions), size


def _ask_video(
    setting: Setting, tallies: Sequence[Tally], check: Check, asked: tuple[HeldOutVideo, VideoPixels]
) -> None:
    video, pixels = asked
    exact: list[FloatArray] = []
    for variant, tally in zip(VARIANTS, tallies, strict=True):
        states, state_bytes = kept_states(setting, pixels, variant.states)
        prefix, kv_bytes = kept_prefix(setting.checkpoint.compressor.prefill(states), variant)
        share = LONGEST_ROW / len(states)
        tally.state_bytes, tally.kv_bytes = round(state_bytes * share), round(kv_bytes * share)
        scores, told = _ask_prefix(setting, video, prefix, pixels.tag_times_s, check)
        exact = exact or scores
        tally.told += told
        tally.right += [text == question.answer for text, question in zip(told, video.questions, strict=True)]
        tally.difference += [float(np.abs(a - b).mean()) for a, b in zip(scores, exact, strict=True)]


def _ask_prefix(
    setting: Setting, video: HeldOutVideo, prefix: PrefixCache, tag_times_s: tuple[float, ...], check: Check
) -> tuple[list[FloatArray], list[str]]:
    """Each question's scores and answer."""
    asked = [ask_whole(setting.checkpoint, prefix, question.text, tag_times_s) for question in video.questions]
    told = setting.answers.texts([Prompt(whole.embeds, tag_tokens=0) for _, _, whole in asked])
    for question, (_, memory, _), text in zip(video.questions, asked, told, strict=True):
        check.compare(setting.checkpoint, question.text, tag_times_s, memory, text)
    return [read.scores for read, _, _ in asked], told


def _row(variant: Variant, tally: Tally, exact: Tally) -> dict[str, object]:
    share, low, high = wilson(sum(tally.right), len(tally.right))
    return {
        "states": variant.states,
        "kv": variant.kv,
        "accuracy": round(share, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "answers_changed": round(float(np.mean([a != b for a, b in zip(tally.told, exact.told, strict=True)])), 4),
        "score_difference": float(f"{np.mean(tally.difference):.3g}"),
        "state_bytes_an_hour": tally.state_bytes,
        "kv_bytes_an_hour": tally.kv_bytes,
    }


def main() -> None:
    """Prints a row per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, questions=500)
    options = parser.parse_args()
    setting, tallies, check = open_setting(options), [Tally() for _ in VARIANTS], Check()
    for asked in setting.read():
        _ask_video(setting, tallies, check, asked)
    rows = [_row(variant, tally, tallies[0]) for variant, tally in zip(VARIANTS, tallies, strict=True)]
    about = {**setting.about(), "same_as_alone": f"{check.same} of {check.of}"}
    print(json.dumps(about))
    print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    write_results(options.out, {"about": about, "rows": rows})


if __name__ == "__main__":
    main()
