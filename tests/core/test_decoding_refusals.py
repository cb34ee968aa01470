"""Files that are no video are refused as what they are, and none makes the decoder read another file."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempo_core.decoding import probe
from tempo_core.errors import SourceError
from tests.support.videos import frames_shown, indexed, make_video, refusal, run_ffmpeg, written

SMALL = (96, 64)


# --- no video ---------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "empty.mp4", b"")) == "the file is empty (0 bytes)"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_text_file_named_like_a_video_is_refused(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"notes.{suffix}", b"Minutes of the meeting of the third of May.\n" * 50)
    assert "no video" in refusal(path)


def test_a_missing_file_is_the_sources_fault(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot open .*gone\.mp4: No such file"):
        probe(tmp_path / "gone.mp4")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "not a regular file" in refusal(tmp_path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(tmp_path / "sound.mp4"))
    assert refusal(tmp_path / "sound.mp4") == "no video stream that can be decoded (only sound)"


def test_sound_with_a_cover_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "album.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", "color=red:size=96x64",
               "-frames:v", "1", "-c:v", "png", "-disposition:v:0", "attached_pic", str(path))  # fmt: skip
    assert refusal(path) == "no video stream that can be decoded (only a cover picture)"


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mkv", codec="mpeg4", size=SMALL)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_UNHEARD/OFIT!"))
    assert refusal(path).startswith("no video stream that can be decoded (its codec is unknown; convert it")


SEGMENT = b"\0\0\0\x18styp" + b"msdh\0\0\0\0msdhmsix" + b"\0\0\0\x10moof" + b"\0\0\0\x08mfhd"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (SEGMENT, "a segment of an MP4 stream, without the init part"),
        (SEGMENT[24:], "a segment of an MP4 stream, without the init part"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 9, "a web page"),
        (b"PK\x03\x04" + bytes(range(200)), "an archive; unpack it"),
        (bytes(100_000), "nothing but zeros"),
        (b"Minutes of the meeting of the third of May.\n" * 50, "text, no video"),
        (random.Random(1).randbytes(50_000), "of no kind that is known, or its beginning is damaged"),
    ],
)
def test_what_is_no_video_is_refused_as_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(written(tmp_path / "video.mp4", content))


def test_pictures_and_sound_are_refused_as_such(tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(tmp_path / "sound.mp3"))
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=96x64", "-frames:v", "1", str(tmp_path / "picture.png"))
    assert refusal(tmp_path / "sound.mp3") == "files of the kind 'mp3' are not read: it is sound, no video"
    assert refusal(tmp_path / "picture.png") == "files of the kind 'png_pipe' are not read: it is a picture, no video"


def test_the_init_part_of_a_stream_is_refused_as_such(tmp_path: Path) -> None:
    options = ("-movflags", "+frag_keyframe+empty_moov")
    whole = make_video(tmp_path / "whole.mp4", size=SMALL, options=options).read_bytes()
    assert "is the init part of a stream" in refusal(written(tmp_path / "init.mp4", whole[: whole.index(b"moof") - 4]))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [("h264", "libx264", ("-bf", "2")), ("hevc", "libx265", ()), ("m2v", "mpeg2video", ("-bf", "2"))],
)
def test_a_raw_stream_is_read_as_evenly_spaced(
    tmp_path: Path, suffix: str, codec: str, options: tuple[str, ...]
) -> None:
    path = make_video(tmp_path / f"video.{suffix}", codec=codec, size=SMALL, options=options)
    info, numbers, warnings = indexed(path)
    assert (info.frame_count, float(info.duration), numbers) == (50, 2.0, [0, 12, 25, 37])
    assert warnings == ("a raw stream has no times: its 50 frames are taken to be evenly spread over 2.0 s",)


# --- tricks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A local server that notices whether anyone connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize(
    "name", ["list.m3u8", "list.mp4", "list.ts", "list.ffconcat", "list.mpd", "list.sdp", "list.txt"]
)
@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "sdp", "image"])
def test_a_file_that_names_other_files_or_the_network_is_refused(
    tmp_path: Path, listener: socket.socket, kind: str, name: str
) -> None:
    secret = make_video(tmp_path / "secret.ts", frames=5, size=(32, 32), codec="mpeg4")
    host, port = listener.getsockname()
    url = f"http://{host}:{port}/a.ts"
    content = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{url}'\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f"<Representation><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "sdp": f"v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "image": "P3\n1 1\n255\n0 0 0\n",
    }[kind]
    reason = refusal(written(tmp_path / name, content.encode()))
    assert "are not read" in reason or "no video" in reason
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("url", ["http://{}/a.mp4", "tcp://{}", "concat:{}|{}", "subfile,,start,0,end,9,,:{}"])
def test_a_path_that_reads_as_a_protocol_is_only_a_name(listener: socket.socket, url: str) -> None:
    host, port = listener.getsockname()
    with pytest.raises(SourceError, match="cannot open"):
        probe(url.format(f"{host}:{port}", "x"))
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    "name",
    ["-i.mp4", "-version", "a:b.mp4", "http:x.mp4", "two\nlines.mp4", "it's \"quoted\".mp4", "50%d [x];,\\.mp4",
     "naïve 映画 🎬.mp4", "not-utf8-\udcff.mp4", "#EXTM3U.mp4", "pipe:0"],
)  # fmt: skip
def test_any_name_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made = make_video(tmp_path / "plain.mp4", size=SMALL)
    monkeypatch.chdir(tmp_path)
    made.rename(name)
    assert [number for _, number in frames_shown(Path(name))] == [0, 12, 25, 37]
