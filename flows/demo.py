"""The demo: videos are made, indexed and asked about, as a user would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.answer_view import show_answer
from flows.commands.index import print_result
from flows.demo_videos import DEMO_VIDEOS, DemoVideo, make_demo_videos
from flows.models import choose_model, load_model
from flows.output import Page, notice, print_json
from flows.session import Wish, run_index
from serving.engine import Engine
from serving.selection import Scope
from storage import ALL_MODELS, open_library
from tempo_core.errors import VideoError
from tempo_core.spec import PAPER

if TYPE_CHECKING:
    from flows.result import IndexResult
    from serving.answer import Answer
    from storage import Library
    from tempo_core import Checkpoint

MOST_TOKENS = 48


def run_demo(keep: Path | None, model: str | None, as_json: bool) -> None:
    """All of it; with ``as_json`` a line per question and nothing else on standard output."""
    page = Page()
    with _folder(keep) as folder:
        library = str(folder / "library")
        videos = make_demo_videos(folder / "videos")
        checkpoint = load_model(choose_model(model, None), notice())
        _index(library, videos, checkpoint, as_json)
        opened = open_library(library)
        engine = Engine(opened, checkpoint)
        for video in DEMO_VIDEOS:
            answer = _ask(engine, opened, video)
            if as_json:
                print_json(_line(video, answer))
            else:
                _show(page, video, answer)
        if keep is not None and not as_json:
            page.line(f'Kept. Go on with: tempo ask "..." --library {library}')


def _index(library: str, videos: list[Path], checkpoint: Checkpoint, quiet: bool) -> None:
    wish = Wish(tuple(str(path) for path in videos), library, checkpoint.id, PAPER.name, retry_failed=True)
    failed: list[IndexResult] = []

    def shown(result: IndexResult, page: Page) -> None:
        failed.extend([result] if result.status == "failed" else [])
        if not quiet:
            print_result(result, page)

    run_index(wish, notice(), shown, readable=not quiet, checkpoint=checkpoint)
    if failed:
        raise VideoError(f"the demo's own video {failed[0].uri} failed: {failed[0].reason}")


def _ask(engine: Engine, library: Library, video: DemoVideo) -> Answer:
    videos = tuple(library.videos(ALL_MODELS, select=[video.name]))
    return engine.ask(video.question, Scope(videos), max_new_tokens=MOST_TOKENS)


def _show(page: Page, video: DemoVideo, answer: Answer) -> None:
    page.line()
    page.line(f"{video.name}: {video.question}", style="bold cyan")
    page.line(answer.answer)
    show_answer(page, answer)


def _line(video: DemoVideo, answer: Answer) -> dict[str, object]:
    """What was answered beside what was expected: nothing, as long as the embedded weights are random."""
    best = answer.citations[0] if answer.citations else None
    return {
        "question": video.question,
        "video": video.name,
        "expected": None,
        "answer": answer.answer,
        "expected_start_s": None,
        "expected_end_s": None,
        "cited_start_s": best.start_s if best else None,
        "cited_end_s": best.end_s if best else None,
        "relevance": best.relevance if best else None,
        "model": answer.model,
        "visual_tokens": answer.usage.visual_tokens,
        "token_budget": answer.usage.token_budget,
        "seconds": answer.timings_s.total,
    }


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="tempo-demo-") as folder:
        yield Path(folder)
