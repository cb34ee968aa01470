"""Files whose tables claim millions of pictures are given up early, at a small cost and with one reason."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempo_core.decoding import probe, probing, scanning
from tempo_core.decoding.probe_worker import LEAST_BYTES
from tempo_core.errors import DecoderDied, VideoError
from tests.support.videos import make_video, written

SMALL = (96, 64)
DAY_AT_60 = 24 * 60 * 60 * 60


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def table(kind: bytes, *numbers: int) -> bytes:
    """A box with version, flags and 32-bit numbers."""
    return box(kind, struct.pack(f">{1 + len(numbers)}I", 0, *numbers))


def claiming_mp4(path: Path, room: int, rounds: int, size: int = 1) -> Path:
    """Pictures of ``size`` bytes, whose chunks are all the same ``room`` pictures of zeros, over and over."""
    begin = box(b"ftyp", b"isom", bytes(4)) + box(b"mdat", bytes(room * size))
    entry = struct.pack(">6xH16xHH14xH32xHh", 1, *SMALL, 1, 24, -1)
    samples = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), box(b"jpeg", entry)),
        table(b"stts", 1, room * rounds, 1),
        table(b"stsc", 1, 1, room, 1),
        table(b"stsz", size, room * rounds),
        table(b"stco", rounds, *[24] * rounds),
    )
    media = box(
        b"mdia",
        table(b"mdhd", 0, 0, 60, room * rounds, 0),
        box(b"hdlr", struct.pack(">II4s13x", 0, 0, b"vide")),
        box(b"minf", samples),
    )
    return written(path, begin + box(b"moov", box(b"trak", media)))


@pytest.mark.parametrize(
    ("room", "rounds"),
    [(1 << 14, DAY_AT_60 >> 14), (1 << 16, 40), (100_000, 1)],
    ids=["a day", "40 times", "one byte each"],
)
def test_a_file_that_claims_more_pictures_than_it_has_room_for_is_refused(
    tmp_path: Path, room: int, rounds: int
) -> None:
    path = claiming_mp4(tmp_path / "claims.mp4", room, rounds)
    most = path.stat().st_size // LEAST_BYTES
    with pytest.raises(VideoError, match=f"more than the {most} pictures and sounds that a file of its size has room"):
        probe(path)


def test_a_file_that_claims_what_it_has_is_read(tmp_path: Path) -> None:
    assert probe(claiming_mp4(tmp_path / "honest.mp4", 1000, 1, size=LEAST_BYTES)).frame_count == 1000


@pytest.fixture
def little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What a scan may take, in MiB: enough for PyAV and a usual file."""
    server, worker, most = tmp_path / "server.py", tmp_path / "worker.py", 48
    text = scanning._SERVER.read_text()
    server.write_text(text.replace("MOST_MEMORY = 3 << 30", f"MOST_MEMORY = {most} << 20"))
    worker.write_bytes(probing._WORKER.read_bytes())  # servers are kept by worker: this one is of its own
    monkeypatch.setattr(scanning, "_SERVER", server)
    monkeypatch.setattr(probing, "_WORKER", worker)
    monkeypatch.setattr(probing, "MOST_MEMORY", most << 20)
    yield most
    for key in [key for key in scanning._servers if key[1] == str(worker)]:
        scanning._servers.pop(key).stop()


def test_a_file_whose_scan_takes_more_memory_than_any_may_is_refused(tmp_path: Path, little_memory: int) -> None:
    grows = claiming_mp4(tmp_path / "grows.mp4", 600_000, 1, size=LEAST_BYTES)
    with pytest.raises(VideoError, match=f"more than the {little_memory} MiB of memory that a file may take") as caught:
        probe(grows)
    assert not isinstance(caught.value, DecoderDied), "it is the file's own fault: no other night will do"
    assert probe(make_video(tmp_path / "usual.mp4", size=SMALL)).frame_count == 50


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The most pictures that the packet scan reads, so few that a test has more."""
    worker, most = tmp_path / "worker.py", 49
    text = probing._WORKER.read_text()
    worker.write_text(text.replace("MOST_PICTURES = 24 * 60 * 60 * 120", f"MOST_PICTURES = {most}"))
    monkeypatch.setattr("tempo_core.decoding.probing._WORKER", worker)
    monkeypatch.setattr("tempo_core.decoding.reasons.MOST_PICTURES", most)
    yield most
    for key in [key for key in scanning._servers if key[1] == str(worker)]:
        scanning._servers.pop(key).stop()


def test_a_file_of_more_pictures_than_are_read_is_refused(tmp_path: Path, few: int) -> None:
    with pytest.raises(VideoError, match=f"claims more than {few} pictures, .* at most so many are read: cut it into"):
        probe(make_video(tmp_path / "more.mp4", frames=few + 1, size=SMALL))
    assert probe(make_video(tmp_path / "most.mp4", frames=few, size=SMALL)).frame_count == few
