"""What a stored thing was computed from, as short digests in a chain.

    frames   = sampling, frame geometry and JPEG settings
    states   = frames + vision weights + state dtype
    features = states + text weights + the suffix that asks for one word

After a change, what depends on it is computed again and nothing else. A video's content is identified apart from these
(``video_id``, the SHA-256 of its bytes), and the name of an index spec is not part of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tempo_core.spec import FrameGeometry, IndexSpec

FRAMES_FORMAT = 1  # raise when frames of the same settings come out different: resampling, JPEG encoder, layout
STATES_FORMAT = 1  # raise when states of the same frames and weights come out different, or are laid out so
FEATURES_FORMAT = 1  # raise when features of the same states and weights come out different

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Fingerprints:
    """One link per stored kind, 16 hex digits each. ``features`` stands for the whole chain."""

    frames: str
    states: str
    features: str


def fingerprints(
    spec: IndexSpec, geometry: FrameGeometry, vision_weights: str, text_weights: str, suffix: str
) -> Fingerprints:
    """The chain for one index spec and one model.

    ``vision_weights`` and ``text_weights`` are hashes of the SVLM's weights, ``suffix`` the text after a prefix that
    its feature is read from. The LLM and the projector have no part in what is stored.
    """
    frames = digest({"format": FRAMES_FORMAT, **_sampling(spec), "geometry": _numbers(asdict(geometry))})
    states = digest({"format": STATES_FORMAT, "frames": frames, "vision": vision_weights, "dtype": spec.state_dtype})
    features = digest({"format": FEATURES_FORMAT, "states": states, "text": text_weights, "suffix": suffix})
    return Fingerprints(frames, states, features)


def digest(value: Mapping[str, Json]) -> str:
    """16 hex digits of the SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sampling(spec: IndexSpec) -> dict[str, Json]:
    """Fields added after schema 1 are hashed only when they differ from their defaults, so that existing libraries keep
    their fingerprints."""
    later: dict[str, Json] = {}
    if spec.sampling != "uniform":
        later |= {"sampling": spec.sampling, "max_gap_s": float(spec.max_gap_s)}
    if spec.decoder != "software":
        later["decoder"] = spec.decoder
    return later | {
        "frames_per_second": float(spec.frames_per_second),
        "min_frames": spec.min_frames,
        "max_frames": spec.max_frames,
        "segment_frames": spec.segment_frames,
        "jpeg_quality": spec.jpeg_quality,
    }


def _numbers(fields: dict[str, int | float]) -> dict[str, Json]:
    """2 and 2.0 mean the same length or ratio, so they must hash to the same digest."""
    return {name: float(number) for name, number in fields.items()}
