"""The demo: videos are made, indexed and asked about, as a user would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.models import choose_models, load_model
from flows.request import IndexRequest
from flows.run.indexing import IndexRun
from flows.terminal.answer_view import show_answer, show_moments
from flows.terminal.demo_videos import DemoVideo, demo_videos, make_demo_videos
from flows.terminal.output import Page, notice, print_json
from flows.terminal.progress import LiveView
from flows.terminal.reporters import ReadableReporter, TerminalReporter
from flows.text import clock
from serving.engine import Engine
from serving.selection import Scope
from storage import ALL_MODELS, open_library
from tempo_core.errors import VideoError
from tempo_core.spec import PAPER

if TYPE_CHECKING:
    from nano.questions import Question
    from serving.answer import Answer
    from storage import Library
    from tempo_core import Checkpoint

MOST_TOKENS = 12  # the longest answer has five


def run_demo(keep: Path | None, model: str | None, as_json: bool) -> None:
    """Make the videos, index them, ask about them; with ``as_json`` print a line for each question and nothing else."""
    page, videos = Page(), demo_videos()
    with _folder(keep) as folder:
        library = str(folder / "library")
        paths = make_demo_videos(folder / "videos", videos)
        checkpoint = load_model(choose_models(model, None, None), notice)
        _index(library, paths, checkpoint, as_json)
        opened = open_library(library)
        engine = Engine(opened, checkpoint)
        right = [
            _ask(page, engine, opened, video, question, as_json) for video in videos for question in video.questions
        ]
        if not as_json:
            page.line(f"{sum(right)} of {len(right)} answers are what the videos' scripts say")
        if keep is not None and not as_json:
            page.line(f'Kept. Go on with: tempo ask "..." --library {library}')


def _index(library: str, videos: list[Path], checkpoint: Checkpoint, quiet: bool) -> None:
    sources = [str(path) for path in videos]
    request = IndexRequest(sources=sources, library=library, model=checkpoint.id, spec=PAPER.name, retry_failed=True)
    with LiveView(readable=not quiet) as view:
        reporter = TerminalReporter(view) if quiet else ReadableReporter(view)
        results = IndexRun(request, reporter, checkpoint).run().results
    if failed := [result for result in results if result.status == "failed"]:
        raise VideoError(f"the demo's own video {failed[0].uri} failed: {failed[0].reason}")


def _ask(page: Page, engine: Engine, library: Library, video: DemoVideo, question: Question, as_json: bool) -> bool:
    """One question asked and shown; whether its answer is right."""
    scope = Scope(tuple(library.videos(ALL_MODELS, select=[video.name])))
    answer = engine.ask(question.text, scope, max_new_tokens=MOST_TOKENS)
    if as_json:
        print_json(_line(video, question, answer))
    else:
        _show(page, video, question, answer)
    return answer.answer.strip() == question.answer


def _span_s(video: DemoVideo, question: Question) -> tuple[int, int] | tuple[None, None]:
    """Where the script shows what is asked about; None where it does not."""
    return video.script.span_s(question.relevant[0]) if question.relevant else (None, None)


def _show(page: Page, video: DemoVideo, question: Question, answer: Answer) -> None:
    start_s, end_s = _span_s(video, question)
    where = "nowhere" if start_s is None or end_s is None else f"{clock(start_s)}{page.glyphs.dash}{clock(end_s)}"
    page.line()
    page.line(f"{video.name}: {question.text}", style="bold cyan")
    page.line(answer.answer)
    page.line(f"the script says: {question.answer}, {where}", style="dim")
    if question is video.questions[0]:
        show_answer(page, answer)
    else:
        show_moments(page, answer)


def _line(video: DemoVideo, question: Question, answer: Answer) -> dict[str, object]:
    """The JSON line of a question: what was answered beside what the script says."""
    best, (start_s, end_s) = answer.citations[0] if answer.citations else None, _span_s(video, question)
    return {
        "question": question.text,
        "video": video.name,
        "expected": question.answer,
        "answer": answer.answer,
        "expected_start_s": start_s,
        "expected_end_s": end_s,
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
