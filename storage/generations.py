"""Generations: each version of a video under a model has a name, which its parts and segment rows carry.

The name is 20 hex digits: 12 of the milliseconds of the Unix epoch at which the generation was begun, 8 random ones.
"""

from __future__ import annotations

import re
import secrets
import time

from storage.stores.base import PARTS_FOLDER


def new_generation() -> str:
    """A name that no other generation has."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(4)}"


def generation_time(generation: str) -> float:
    """When a generation was begun, in seconds of the Unix epoch; 0 for what is not the name of one."""
    return int(generation[:12], 16) / 1000 if re.fullmatch(r"[0-9a-f]{20}", generation) else 0.0


def part_path(kind: str, video_id: str, fingerprint: str, generation: str) -> str:
    """parts/<2 digits>/<video id>/<kind>-<fingerprint>-<generation>.parquet; ``kind`` is frames or states."""
    return f"{PARTS_FOLDER}/{video_id[:2]}/{video_id}/{kind}-{fingerprint}-{generation}.parquet"


def part_generation(path: str) -> str | None:
    """The generation in the name of a part or a staged part; None for any other file."""
    match = re.search(r"/(?:frames|states)-[0-9a-f]+-([0-9a-f]+)\.parquet(?:\.staged)?$", path)
    return match.group(1) if match else None
