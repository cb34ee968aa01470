"""Trains a model of the drawn world from scratch: python -m nano.train [--stock] --out FOLDER

tempo-nano, or with --stock nano-vl, a Qwen3-VL of stock layout. Ten minutes and more on one H100 by the time of the
steps, two of them compiling. A run that reached --minutes or was killed goes on from where it last saved when the same
command is given again; its state lies in --state. What --out holds is always the last saved model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import torch
from torch import nn
from torch.utils.data import DataLoader

from nano.batches import draw_batch
from nano.checkpoint import write_checkpoint, write_stock
from nano.losses import Losses
from nano.model import NanoModel, Svlm
from nano.muon import Muon
from nano.optimize import Optimize, as_written, compiled
from nano.recorded import RecordedStep
from nano.schedule import STOCK_SCHEDULE, Kind, Schedule
from nano.segment_batches import Batches, BatchShape, Draw
from nano.sizes import stock_config
from nano.stock_batches import draw_stock_batch
from nano.stock_losses import StockLosses
from nano.tables import Tables
from nano.tokenizer import STOCK_WORDING, TEMPO_WORDING, Wording
from tempo_core.errors import UsageError

Tensor = torch.Tensor
SEED = 20260408
SAVE_S, LOG_STEPS = 60.0, 51  # odd: of the last part both kinds of step are logged
MAX_NORM = 1.0
WEIGHTS = {"see": 0.5, "route": 1.0, "read": 0.5, "find": 3.0, "answer": 1.0, "long": 1.0}


@dataclass(frozen=True)
class Trained:
    """What differs between the models. ``losses``: of tables, a device and how functions are optimized.

    ``write``: of the model and a folder.
    """

    wording: Wording
    losses: Callable[[Tables, torch.device, Optimize], Any]
    draw: Draw
    write: Callable[[Any, Path], Path]


TEMPO_NANO = Trained(
    TEMPO_WORDING,
    lambda tables, device, optimize: Losses(NanoModel(optimize), tables, device, optimize),
    draw_batch,
    write_checkpoint,
)
NANO_VL = Trained(
    STOCK_WORDING,
    lambda tables, device, optimize: StockLosses(
        Svlm(stock_config(), STOCK_WORDING, optimize), tables, device, optimize
    ),
    draw_stock_batch,
    write_stock,
)


@dataclass
class Run:
    """What a training run holds; ``step`` steps are done."""

    trained: Trained
    losses: Any
    optimizers: list[torch.optim.Optimizer]
    schedule: Schedule
    device: torch.device
    step: int = 0

    def forget_gradients(self) -> None:
        """None, not zero."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path) -> None:
        """Everything that the next run goes on from."""
        state = {"losses": self.losses.state_dict(), "step": self.step, "schedule": asdict(self.schedule)}
        state["optimizers"] = [one.state_dict() for one in self.optimizers]
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Goes on from a saved state. UsageError where that run had another schedule."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state.get("schedule") != asdict(self.schedule):
            raise UsageError(f"{path} is of a run with another schedule: remove it, or name another file with --state")
        self.losses.load_state_dict(state["losses"])
        self.step = int(state["step"])
        for one, saved in zip(self.optimizers, state["optimizers"], strict=True):
            one.load_state_dict(saved)


def begin(trained: Trained, schedule: Schedule, device: torch.device, optimize: Optimize = as_written) -> Run:
    """A new run, from the seed."""
    torch.manual_seed(SEED)
    with TemporaryDirectory() as folder:
        losses = trained.losses(Tables(Path(folder), trained.wording), device, optimize)
    return Run(trained, losses, make_optimizers(losses, schedule), schedule, device)


def make_optimizers(losses: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    named = dict(losses.named_parameters())
    inner = {name for name, p in named.items() if p.ndim == 2 and (".layers." in name or ".blocks." in name)}
    rest = [p for name, p in named.items() if name not in inner]
    muon = Muon([named[name] for name in sorted(inner)], schedule.muon_rate, weight_decay=0.01)
    on_gpu, rate = rest[0].is_cuda, torch.tensor(schedule.adam_rate, device=rest[0].device)
    adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=on_gpu, capturable=on_gpu)
    for optimizer, peak in ((muon, schedule.muon_rate), (adam, schedule.adam_rate)):
        optimizer.param_groups[0]["peak"] = peak
    return [muon, adam]


def train(run: Run, deadline: float, save: Callable[[], None], log: TextIO, workers: int) -> bool:
    """Steps until the schedule's end (True) or the ``deadline`` of the monotonic clock; saves now and then."""
    data, steps = _Data(run, workers), _Steps(run)
    saved = started = time.monotonic()
    while run.step < run.schedule.steps and time.monotonic() < deadline:
        figures = steps.take(data.next(run.schedule.kind(run.step) == "long"))
        run.step += 1
        if run.step % LOG_STEPS == 0:
            _note(run, figures, time.monotonic() - started, log)
        if time.monotonic() - saved > SAVE_S:
            save()
            saved = time.monotonic()
    save()
    return run.step >= run.schedule.steps


class _Data:
    """Endless batches of both shapes, drawn by worker processes."""

    def __init__(self, run: Run, workers: int) -> None:
        self._run, self._workers = run, workers
        self._short = self._stream(run.schedule.short_shape, 1)
        self._long: Iterator[Any] | None = None

    def next(self, is_long: bool) -> Any:
        if not is_long:
            return next(self._short).to(self._run.device)
        if self._long is None:
            self._long = self._stream(self._run.schedule.long_shape, 2)
        return next(self._long).to(self._run.device)

    def _stream(self, shape: BatchShape, part: int) -> Iterator[Any]:
        seed = (SEED + self._run.step) * 10 + part
        batches = Batches(self._run.trained.draw, self._run.trained.wording, shape, seed)
        return iter(DataLoader(batches, batch_size=None, num_workers=self._workers))


class _Steps:
    """The three kinds of step: to read, to read and answer, to answer long prompts."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._recorded: dict[str, RecordedStep] = {}

    def take(self, batch: Any) -> dict[str, Tensor]:
        """One step on a batch; its figures."""
        run = self._run
        kind = run.schedule.kind(run.step)
        generator = torch.Generator(run.device).manual_seed(SEED + run.step)
        drawn = run.losses.drawn(kind, batch, run.schedule.drop(run.step), generator)
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(run.schedule.rate(run.step) * group["peak"])
        if kind not in self._recorded:
            self._recorded[kind] = RecordedStep(partial(_compute, run, kind), run.forget_gradients)
        return self._recorded[kind](batch, *drawn)


def _compute(run: Run, kind: Kind, batch: Any, *drawn: Tensor) -> dict[str, Tensor]:
    """Forward, backward, update."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda"):  # as in muon.py
        losses, figures = run.losses.step(kind, batch, *drawn)
        total: Tensor = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
    total.backward()
    figures["norm"] = nn.utils.clip_grad_norm_(run.losses.parameters(), MAX_NORM)
    for optimizer in run.optimizers:
        optimizer.step()
    return {**{f"loss_{name}": loss.detach() for name, loss in losses.items()}, **figures}


def _note(run: Run, figures: dict[str, Tensor], seconds: float, log: TextIO) -> None:
    line = {"step": run.step, "seconds": round(seconds, 1)}
    line |= {name: round(float(value), 4) for name, value in figures.items()}
    log.write(json.dumps(line) + "\n")
    log.flush()
    if not math.isfinite(sum(value for value in line.values())):
        raise FloatingPointError(f"step {run.step}: a figure is not finite: {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 where the training is whole, 3 where it was stopped before."""
    options = _options(arguments)
    deadline = time.monotonic() + options.minutes * 60
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained, schedule = (NANO_VL, STOCK_SCHEDULE) if options.stock else (TEMPO_NANO, Schedule())
    run = begin(trained, schedule, device, as_written if options.eager else compiled)
    if options.state.exists():
        try:
            run.load(options.state)
        except UsageError as error:
            raise SystemExit(str(error)) from None

    def save() -> None:
        run.save(options.state)
        trained.write(run.losses.model, options.out)

    with options.log.open("a") if options.log else nullcontext(sys.stdout) as log:
        return 0 if train(run, deadline, save, log, options.workers) else 3


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", action="store_true", help="train nano-vl, not tempo-nano")
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint is written, and its base")
    parser.add_argument("--state", type=Path, default=Path("nano-state.pt"), help="what a run goes on from")
    parser.add_argument("--log", type=Path, help="figures as JSON lines; default: standard output")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop and save after so long")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 4), help="that draw batches")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
