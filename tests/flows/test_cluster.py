"""What the fan-out asks Ray for: so many threads for a decoder, a share of a GPU for one that decodes there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from flows.models import identify_model
from flows.on_ray.actor import ENCODER_SHARE, NVDEC_SHARE, WorkerSetup, decoder_resources
from flows.on_ray.cluster import ActorPool, decoder_threads
from flows.on_ray.ray_start import start_ray
from flows.run.indexing import wants_ray
from flows.video.source_frames import DecodeSettings
from storage import open_library
from tempo_core.errors import CheckpointError
from tempo_core.spec import PAPER, FrameGeometry, named_spec


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


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActorPool]:
    """Two actors, by two GPUs that Ray is told of."""
    library = open_library(str(tmp_path_factory.mktemp("pool") / "library"), create=True)
    model = identify_model("embedded")
    setup = WorkerSetup(model.id, library.uri, PAPER, model.fingerprints(PAPER))
    with start_ray(num_cpus=2, num_gpus=2):
        opened = ActorPool(setup, video_count=2)
        yield opened
        opened.close()


@pytest.mark.ray
@pytest.mark.slow
def test_nobody_waits_for_the_successor_of_a_dead_actor(pool: ActorPool) -> None:
    ray.kill(pool._actors[0])
    starting = pool.replace(0)
    assert not starting.done()
    assert pool.workers == [1]
    starting.result(timeout=120)
    assert pool.workers == [0, 1]


@pytest.mark.ray
@pytest.mark.slow
def test_a_successor_that_dies_before_it_is_ready_is_an_error_of_the_model(pool: ActorPool) -> None:
    ray.kill(pool._actors[1])
    starting = pool.replace(1)
    ray.kill(pool._actors[1])
    with pytest.raises(CheckpointError, match="did not come up with"):
        pool.result(starting)
    assert pool.workers == [0]


def test_eight_decoders_fit_beside_an_encoder_and_two_encoders_do_not() -> None:
    assert ENCODER_SHARE + 8 * NVDEC_SHARE <= 1
    assert 2 * ENCODER_SHARE > 1


@pytest.mark.parametrize(
    ("where", "videos", "wanted"),
    [("auto", 8, False), ("auto", 9, True), ("off", 500, False), ("local", 1, True), ("local", 0, False)],
)
def test_a_few_videos_start_no_ray(where: str, videos: int, wanted: bool) -> None:
    assert wants_ray(where, videos) is wanted
