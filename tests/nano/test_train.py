"""Training: it goes on where it stopped, learns, and writes a model that can be loaded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from torch import nn

from nano import train as training
from nano.batches import Batch, draw_batch
from nano.muon import Muon
from nano.phrasings import PHRASINGS
from nano.prompting import draw_counts
from nano.schedule import Schedule
from nano.segment_batches import LABELS, BatchShape, absent_question
from nano.segment_losses import area_under_curve
from nano.tables import Tables
from nano.train import NANO_VL, TEMPO_NANO, Run, Trained, begin, main, train
from nano.world import HELD_OUT_PAIRS, LONGEST_ROW, SCENE_LENGTHS_S, Habits, draw_script
from tempo_core import load_checkpoint

TINY = replace(
    Schedule(),
    read=2,
    short=2,
    long=2,
    cool_down=3,
    warm_up=1,
    short_shape=BatchShape(videos=1, segments=4, questions=2),
    long_shape=BatchShape(videos=1, segments=6, questions=2, long=24),
)
FAR = 1e18
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def batch(tables: Tables) -> Batch:
    return draw_batch(random.Random(1), BatchShape(videos=8, segments=12, questions=8, long=40), tables)


# --- the run ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_passes_through_all_three_parts_and_logs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOG_STEPS", 1)
    monkeypatch.setattr(training, "SAVE_S", FAR)
    log, saved = StringIO(), list[int]()
    run = begin(TEMPO_NANO, TINY, CPU)
    assert train(run, FAR, lambda: saved.append(run.step), log, workers=0)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    kinds = [("loss_answer" in line, "loss_long" in line) for line in lines]
    assert kinds == [(False, False)] * 2 + [(True, False)] * 3 + [(False, True)]
    assert saved == [TINY.steps]


@pytest.mark.slow
def test_a_stopped_run_goes_on_from_what_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state.pt"
    run = begin(TEMPO_NANO, TINY, CPU)
    ticks = iter([0.0, *[0.0] * 5, *[2.0] * 50])
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    assert not train(run, 1.0, lambda: run.save(state), StringIO(), workers=0)
    monkeypatch.undo()
    again = begin(TEMPO_NANO, TINY, CPU)
    again.load(state)
    assert 0 < again.step == run.step < TINY.steps
    weights = again.losses.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.losses.state_dict().items())
    momenta = [state["momentum"] for state in again.optimizers[0].state.values()]
    assert momenta and all(bool(one.any()) for one in momenta)
    assert train(again, FAR, lambda: None, StringIO(), workers=0)


@pytest.mark.slow
def test_a_run_of_another_schedule_is_not_gone_on_with(tmp_path: Path) -> None:
    begin(TEMPO_NANO, TINY, CPU).save(tmp_path / "state.pt")
    arguments = ["--out", str(tmp_path / "out"), "--state", str(tmp_path / "state.pt"), "--eager"]
    with pytest.raises(SystemExit, match=r"state\.pt is of a run with another schedule: remove it"):
        main(arguments)


@pytest.mark.slow
def test_the_command_writes_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Schedule", lambda: replace(TINY, read=1, short=1, long=0))
    arguments = ["--out", str(tmp_path / "out"), "--state", str(tmp_path / "s.pt"), "--log", str(tmp_path / "log")]
    assert main([*arguments, "--eager", "--workers", "0"]) == 0
    load_checkpoint(tmp_path / "out" / "tempo-nano")


@pytest.mark.slow
@pytest.mark.parametrize("trained", [TEMPO_NANO, NANO_VL], ids=["tempo-nano", "nano-vl"])
def test_a_few_steps_on_one_batch_lower_every_loss(trained: Trained, tmp_path: Path) -> None:
    run = begin(trained, replace(TINY, read=0, short=20, long=0, cool_down=1), CPU)
    one = trained.draw(random.Random(1), TINY.short_shape, Tables(tmp_path, trained.wording))
    steps = training._Steps(run)

    def losses() -> dict[str, float]:
        figures = steps.take(one)
        run.step += 1
        return {name: float(value) for name, value in figures.items() if name.startswith("loss_")}

    first = losses()
    last = [losses() for _ in range(12)][-1]
    assert {name for name in first if last[name] >= first[name]} == set()


@pytest.mark.slow
def test_the_same_seed_begins_with_the_same_weights() -> None:
    def weights() -> Run:
        return begin(TEMPO_NANO, TINY, CPU)

    ones, others = weights().losses.state_dict(), weights().losses.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in ones.items())


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_the_rate_warms_up_holds_and_cools_down() -> None:
    schedule = Schedule(read=100, short=100, long=100, warm_up=10, cool_down=50)
    rates = [schedule.rate(step) for step in (0, 9, 150, 275, 299)]
    assert rates == pytest.approx([0.1, 1, 1, 0.5, 0.02])


def test_long_prompts_take_turns_with_short_ones_at_the_end() -> None:
    schedule = Schedule(read=2, short=2, long=4)
    assert [schedule.kind(step) for step in range(8)] == ["read"] * 2 + ["answer"] * 3 + ["long", "answer", "long"]


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_training_asks_nothing_that_is_held_back(batch: Batch, tables: Tables) -> None:
    novel = [form.split("{")[0] for forms in PHRASINGS.values() for form in forms[-1:]]
    asked = {tables.texts[number] for number in batch.texts.flatten().tolist()}
    known = [form.split("{")[0] for forms in PHRASINGS.values() for form in forms[:-1]]
    assert not any(text.startswith(begin) for text in asked for begin in set(novel) - set(known))


def test_what_is_absent_is_never_a_held_out_pair() -> None:
    empty = draw_script(random.Random(1), 4, habits=Habits(quiet=1.0))
    asked = [absent_question(random.Random(seed), empty) for seed in range(200)]
    assert not {(question.sought.thing, question.sought.colour) for question in asked} & HELD_OUT_PAIRS


def test_most_segments_are_irrelevant_to_a_question(batch: Batch) -> None:
    assert 0.03 < float(batch.relevant.float().mean()) < 0.3


def test_what_is_relevant_reads_as_something_and_the_rest_as_nothing(batch: Batch, tables: Tables) -> None:
    nothing = LABELS.index("nothing")
    after = torch.tensor([[" after " in tables.texts[text] for text in row] for row in batch.texts.tolist()])
    reads = batch.reads[..., 0][~after]
    assert torch.equal(reads != nothing, batch.relevant[~after])


def test_a_long_prompt_holds_what_its_answer_needs(batch: Batch) -> None:
    needed = batch.long_needed.sum(-1)
    assert torch.equal(needed, batch.needed.sum(-1))
    sources = batch.long_sources.masked_fill(~batch.long_needed, -1)
    for long, short in zip(sources.flatten(0, 1), batch.needed.flatten(0, 1), strict=True):
        assert sorted(long[long >= 0].tolist()) == short.nonzero()[:, 0].tolist()


def test_in_a_long_prompt_what_comes_after_is_needed_but_not_relevant(batch: Batch) -> None:
    assert torch.equal(batch.long_relevant.sum(-1), batch.relevant.sum(-1))
    assert not bool((batch.long_relevant & ~batch.long_needed).any())
    assert int(batch.long_relevant.sum()) < int(batch.long_needed.sum())


def test_what_comes_after_something_is_in_the_same_video(tables: Tables) -> None:
    rng, seen = random.Random(4), 0
    for _ in range(8):
        one = draw_batch(rng, BatchShape(videos=4, segments=10, questions=4), tables)
        for video, question in (one.needed.sum(-1) == 2).nonzero().tolist():
            if " after " in tables.texts[int(one.texts[video, question])]:
                follower = int(one.needed[video, question].nonzero()[1])
                assert int(one.titles[video, follower]) == 0
                seen += int(one.titles[video].any())
    assert seen


def test_when_is_answered_in_the_time_of_the_tags(tables: Tables) -> None:
    rng, seen = random.Random(4), 0
    for _ in range(6):
        one = draw_batch(rng, BatchShape(videos=2, segments=10, questions=6), tables)
        for video, question in one.needed.any(-1).nonzero().tolist():
            text = tables.texts[int(one.texts[video, question])]
            if not text.startswith(("When", "At what time", "Tell me the time")):
                continue
            row = int(one.moments[video, int(one.needed[video, question].nonzero()[0])])
            middle = SCENE_LENGTHS_S[row // LONGEST_ROW] * (2 * (row % LONGEST_ROW) + 1) // 2
            assert one.answers[video, question].tolist() == tables.answer(str(middle)).tolist()
            seen += 1
    assert seen > 3


def test_counts_keep_what_is_needed_and_leave_out_the_rest_now_and_then() -> None:
    needed = torch.zeros(400, 12, dtype=torch.bool)
    needed[:, 3] = True
    counts = draw_counts(needed, needed, 16, torch.Generator().manual_seed(1), drop=0.5)
    assert int(counts[:, 3].min()) >= 1
    assert (int(counts.min()), int(counts.max())) == (-1, 16)
    assert bool((counts == 16).all(1).any())


def test_what_is_needed_but_not_relevant_is_not_given_more_than_the_rest() -> None:
    needed, relevant = torch.zeros(2, 400, 12, dtype=torch.bool)
    needed[:, 3:5] = relevant[:, 3] = True
    counts = draw_counts(needed, relevant, 16, torch.Generator().manual_seed(1), drop=0.0).float().mean(0)
    assert counts[3] > 1.1 * counts[4]
    assert counts[4] < 1.1 * counts[5]


def test_nothing_is_left_out_where_that_is_not_wanted() -> None:
    nothing = torch.zeros(50, 8, dtype=torch.bool)
    counts = draw_counts(nothing, nothing, 16, torch.Generator().manual_seed(1), drop=0.0)
    assert int(counts.min()) >= 1


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_area_under_the_curve_is_the_chance_of_the_right_order() -> None:
    scores, wanted = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])
    assert float(area_under_curve(scores, wanted)) == pytest.approx(0.75)


def test_muon_updates_as_pytorchs_own() -> None:
    torch.manual_seed(1)
    shapes = ((96, 64), (64, 96), (48, 48), (96, 64))
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(one.detach().clone()) for one in ours]
    made: tuple[Callable[[], object], ...] = (
        Muon(ours, 1e-2, weight_decay=0.1).step,
        torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw").step,
    )
    begun = [one.detach().clone() for one in ours]
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for step in made:
            step()
    for one, other, first in zip(ours, theirs, begun, strict=True):
        moved = float((one.detach() - first).abs().max())
        assert moved > 0.01
        assert float((one - other).detach().abs().max()) < 0.1 * moved  # bfloat16
