"""What the fan-out asks Ray for: so many threads for a decoder, a share of a GPU for one that decodes there."""

from __future__ import annotations

import pytest

from flows.on_ray.actor import ENCODER_SHARE, NVDEC_SHARE, decoder_resources
from flows.on_ray.cluster import decoder_threads, refuse_local
from flows.run.indexing import wants_ray
from flows.video.source_frames import DecodeSettings
from tempo_core.errors import UsageError
from tempo_core.spec import FrameGeometry, named_spec


@pytest.mark.parametrize(
    ("cpus", "videos", "threads"),
    [
        (16, 1, 16),  # one video has the machine
        (16, 2, 8),
        (16, 500, 4),  # many: four decoders of four
        (2, 500, 1),
        (1, 5, 1),
        (64, 3, 21),
    ],
)
def test_few_videos_get_more_threads_each(cpus: int, videos: int, threads: int) -> None:
    assert decoder_threads(cpus, videos) == threads


@pytest.mark.parametrize(("spec", "gpu"), [("paper", 0), ("keyframes", 0), ("paper-nvdec", NVDEC_SHARE)])
def test_a_decoder_on_the_gpu_asks_for_a_share_of_one(spec: str, gpu: float) -> None:
    settings = DecodeSettings(named_spec(spec), FrameGeometry(), threads=3)
    assert decoder_resources(settings) == {"num_cpus": 3, "num_gpus": gpu}


@pytest.mark.parametrize(
    ("library", "source"), [("/libraries/a", "s3://archive/a.mp4"), ("s3://archive/library", "/videos/a.mp4")]
)
def test_a_path_that_one_node_of_several_sees_is_refused(
    library: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = library if library.startswith("/") else source
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    with pytest.raises(UsageError, match=f"^{path} is a place on one machine, and the cluster has 2 nodes.*s3://"):
        refuse_local(library, [source])
    refuse_local("s3://archive/library", ["s3://archive/a.mp4"])
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
    refuse_local(library, [source])


def test_eight_decoders_fit_beside_an_encoder_and_two_encoders_do_not() -> None:
    assert ENCODER_SHARE + 8 * NVDEC_SHARE <= 1
    assert 2 * ENCODER_SHARE > 1


@pytest.mark.parametrize(
    ("where", "videos", "wanted"),
    [("auto", 8, False), ("auto", 9, True), ("off", 500, False), ("local", 1, True), ("local", 0, False)],
)
def test_a_few_videos_start_no_ray(where: str, videos: int, wanted: bool) -> None:
    assert wants_ray(where, videos) is wanted
