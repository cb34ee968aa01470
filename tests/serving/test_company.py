"""Many questions at once: each is answered as if it were asked alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from flows.embedded import embedded_folder
from serving.answer import Answer
from serving.engine import Engine
from serving.selection import Scope
from storage import Library
from tempo_core import load_checkpoint
from tempo_core.checkpoint_parts import Checkpoint
from tests.support.asking import at_once, engine_of, scope_of, small_library

QUESTIONS = [
    "How many red circles are there?",
    "Tell me the colour of the thing that moves up.",
    "When does a blue star appear, and where does it go?",
    "What is shown?",
    "Which shape comes last?",
    "What colour is the square?",
    "Is there anything green that moves to the left, and if so, when is it first seen?",
    "?",
]
COUNT = 32
MODELS: dict[str, Callable[[], Path]] = {
    "memory tokens": embedded_folder,
    "visual tokens": lambda: embedded_folder().with_name("nano-vl"),
}


@dataclass(frozen=True)
class Asked:
    """A question with all that it is asked with."""

    text: str
    scope: Scope
    token_budget: int | None
    max_new_tokens: int

    def of(self, engine: Engine) -> Answer:
        return engine.ask(self.text, self.scope, self.token_budget, self.max_new_tokens)

    def begun(self, engine: Engine) -> None:
        """Asked, and left after the first piece."""
        next(iter(engine.stream(self.text, self.scope, self.token_budget, self.max_new_tokens)))


def drawn(library: Library, rng: random.Random) -> Asked:
    scopes = [
        scope_of(library, "lecture.mp4"),
        scope_of(library, "storm.mp4"),
        scope_of(library, "storm.mp4", "lecture.mp4"),
        replace(scope_of(library, "lecture.mp4"), from_s=8.0, to_s=21.0),
        Scope(candidates=4),
    ]
    return Asked(rng.choice(QUESTIONS), rng.choice(scopes), rng.choice([None, 300, 600]), rng.randint(1, 12))


def told(answer: Answer) -> dict[str, object]:
    """All of an answer but the times; scores are sums in another order where segments have other company."""
    values = answer.to_json() | {"timings_s": None, "segments": [], "citations": []}
    return values | {"shares": [(one.uri, one.index, one.tokens, one.pairs) for one in answer.segments]}


@pytest.mark.slow
@pytest.mark.parametrize("family", list(MODELS))
def test_answers_in_any_order_and_company_are_those_of_the_same_questions_asked_alone(
    family: str, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(MODELS[family](), dtype="float32")
    library, rng = small_library(tmp_path, checkpoint), random.Random(13)
    questions = [drawn(library, rng) for _ in range(COUNT)]
    with engine_of(library, checkpoint) as engine:
        alone = [told(question.of(engine)) for question in questions]
    with engine_of(library, checkpoint) as engine:
        order = rng.sample(range(COUNT), COUNT)
        leaving: list[Callable[[], Answer | None]] = [partial(one.begun, engine) for one in rng.sample(questions, 8)]
        asks: list[Callable[[], Answer | None]] = [partial(questions[i].of, engine) for i in order]
        answers = [answer for answer in at_once([*asks[:16], *leaving, *asks[16:]]) if answer is not None]
    together = {i: told(answer) for i, answer in zip(order, answers, strict=True)}
    assert [together[i] for i in range(COUNT)] == alone


def test_one_place_alone_serves_everybody_in_turn(tmp_path: Path, golden: Checkpoint) -> None:
    library = small_library(tmp_path, golden)
    with engine_of(library, golden) as engine:
        alone = [engine.ask(text, max_new_tokens=8).answer for text in QUESTIONS]
    with engine_of(library, golden, answer_bytes=0, device_cache_bytes=0) as engine:
        together = at_once([partial(engine.ask, text, max_new_tokens=8) for text in QUESTIONS])
    assert [answer.answer for answer in together] == alone


@pytest.fixture
def golden() -> Checkpoint:
    from tests.support.golden_cases import golden_checkpoint

    return golden_checkpoint()
