"""What a question costs a stock vision-language model: reading everything, and reading what it routed.

    everything   all frame pairs, as the stock model reads a video; its vision tower's work is given
    cold         states on disk (page cache dropped where the system allows it), nothing in memory; routed and allocated
    warm         prefixes' KV caches on the device from an earlier question; the chosen pairs' states still from disk

One run of each before the clock starts. `python -m benchmarks.reading --sizes 2B 8B`: random weights of the published
sizes, which time as well as trained ones. An hour of video under the `paper` spec: 1,024 frames at 512x256, 65,536
visual tokens. Model and states alone, without a library, so that it runs where none is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen3VLConfig

from benchmarks.random_checkpoint import QUESTION, random_tensor, small_tokenizer
from serving.frame_pairs import share_pairs
from tempo_core import modules
from tempo_core.checkpoint_parts import relevance_direction
from tempo_core.prefix_cache import PrefixCache
from tempo_core.prompts import QWEN3_VL_ROUTING, PromptEncoder
from tempo_core.router import Router
from tempo_core.sampling import SegmentSpan, sample_frames, segment_spans
from tempo_core.spec import PAPER
from tempo_core.state_reader import StateReader
from tempo_core.values import SegmentState

Row = dict[str, object]
GRID = (16, 32)  # patch rows and columns of a frame of 512x256
SLAB_SEGMENTS = 32  # as the engine restores them


@dataclass(frozen=True)
class Model:
    """A stock model with random weights."""

    router: Router
    reader: StateReader
    levels: int
    hidden: int

    @property
    def device(self) -> torch.device:
        return self.router.device


@dataclass(frozen=True)
class Stored:
    """States on disk as one file of raw bfloat16 rows, a segment behind the other."""

    path: Path
    spans: Sequence[SegmentSpan]
    levels: int
    hidden: int

    def read(self, indices: Sequence[int] | None = None, drop: bool = False) -> list[SegmentState]:
        """Whole segments, in order."""
        with self.path.open("rb") as file:
            if drop:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return [self._segment(file.fileno(), i) for i in (range(len(self.spans)) if indices is None else indices)]

    def _segment(self, descriptor: int, index: int) -> SegmentState:
        pairs = len(self.spans[0].pair_times_s)
        tokens = pairs * GRID[0] * GRID[1] // 4
        size = self.levels * tokens * self.hidden * 2
        rows = np.frombuffer(os.pread(descriptor, size, index * size), np.uint8)
        shape = (self.levels, tokens, self.hidden * 2)
        return SegmentState(rows.reshape(shape), "bfloat16", (pairs, *GRID), self.spans[index].pair_times_s)


def random_model(config: dict[str, Any], device: str) -> Model:
    """Of a stock config's sizes, in bfloat16."""
    parsed: Any = Qwen3VLConfig(**config)
    generator = torch.Generator(device).manual_seed(1)
    vision, text = modules.vision_tower(parsed.vision_config), modules.text_model(parsed.text_config)
    for module in (vision, text):
        named = {
            name: random_tensor(tuple(parameter.shape), generator) for name, parameter in module.named_parameters()
        }
        module.load_state_dict(named, strict=False, assign=True)
        module.to(device)
    embeddings: torch.Tensor = text.embed_tokens.weight  # type: ignore[assignment, union-attr]
    head = embeddings if parsed.tie_word_embeddings else random_tensor(tuple(embeddings.shape), generator).to(device)
    prompts = PromptEncoder(small_tokenizer(), QWEN3_VL_ROUTING)
    router = Router(vision, text, relevance_direction(head, prompts), prompts)
    context = int(parsed.text_config.max_position_embeddings)
    reader = StateReader(modules.CausalModel(text, head), prompts, context, frozenset(), merge=2)
    return Model(router, reader, 1 + len(parsed.vision_config.deepstack_visual_indexes), parsed.text_config.hidden_size)


def store(model: Model, path: Path, seconds: int) -> Stored:
    """Random states of a video of that length."""
    spans = segment_spans(sample_frames(Fraction(seconds), PAPER), PAPER)
    stored = Stored(path, spans, model.levels, model.hidden)
    tokens = len(spans[0].pair_times_s) * GRID[0] * GRID[1] // 4
    with path.open("wb") as file:
        for _ in spans:
            states = torch.randn(model.levels, tokens, model.hidden, device=model.device).bfloat16()
            file.write(states.view(torch.uint8).cpu().numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
    return stored


def everything(model: Model, stored: Stored, new_tokens: int) -> None:
    prompt = model.reader.prompt(QUESTION, stored.read())
    for _ in model.reader.token_ids(prompt, new_tokens):
        pass


def prefixes(model: Model, stored: Stored, drop: bool = False) -> list[PrefixCache]:
    states = stored.read(drop=drop)
    slabs = range(0, len(states), SLAB_SEGMENTS)
    return [model.router.prefill(states[start : start + SLAB_SEGMENTS]) for start in slabs]


def routed(model: Model, stored: Stored, slabs: Sequence[PrefixCache], token_budget: int, new_tokens: int) -> int:
    """Visual tokens that were read."""
    scores = np.concatenate([model.router.relevance(slab, QUESTION) for slab in slabs])
    scores[len(scores) // 2] += 1.0  # random weights let no segment stand out
    pairs = [len(span.pair_times_s) for span in stored.spans]
    cost = model.router.pair_tokens((1, *GRID), stored.spans[-1].pair_times_s[-1])
    chosen = share_pairs(scores, pairs, [cost] * len(pairs), token_budget).chosen
    some = [i for i, found in enumerate(chosen) if found]
    states = [state.pairs(chosen[i]) for i, state in zip(some, stored.read(some), strict=True)]
    prompt = model.reader.prompt(QUESTION, states)
    for _ in model.reader.token_ids(prompt, new_tokens):
        pass
    return sum(int(state.rows.shape[1]) for state in states)


def measure(model: Model, stored: Stored, budgets: Sequence[int], new_tokens: int, repeats: int) -> list[Row]:
    rows = [_row(model, "everything", lambda tokens: everything(model, stored, tokens), new_tokens, repeats)]
    for budget in budgets:
        slabs = prefixes(model, stored)
        visual = routed(model, stored, slabs, budget, 2)

        def warm(tokens: int, slabs: list[PrefixCache] = slabs, budget: int = budget) -> None:
            routed(model, stored, slabs, budget, tokens)

        def cold(tokens: int, budget: int = budget) -> None:
            routed(model, stored, prefixes(model, stored, drop=True), budget, tokens)

        rows.append({"budget": budget, "visual_tokens": visual, **_row(model, "warm", warm, new_tokens, repeats)})
        del slabs
        rows.append({"budget": budget, "visual_tokens": visual, **_row(model, "cold", cold, new_tokens, repeats)})
    return rows


def _row(model: Model, way: str, ask: Callable[[int], None], new_tokens: int, repeats: int) -> Row:
    """Medians of the first token's and the whole answer's seconds, and the device's peak memory."""
    on_gpu = model.device.type == "cuda"
    ask(2)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds: dict[int, list[float]] = {1: [], new_tokens: []}
    for _ in range(repeats):
        for tokens, taken in seconds.items():
            began = time.perf_counter()
            ask(tokens)
            taken.append(time.perf_counter() - began)
    first, whole = (statistics.median(taken) for taken in seconds.values())
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    row: Row = {"way": way, "first_token_s": round(first, 4), "answer_s": round(whole, 4), "peak_bytes": peak}
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny"], help="among tiny, 2B, 8B")
    parser.add_argument("--seconds", type=int, default=3600, help="length of the video")
    parser.add_argument("--budgets", type=int, nargs="+", default=[8192, 4096], help="visual tokens with their tags")
    parser.add_argument("--new-tokens", type=int, default=33)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file for the numbers as JSON")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = json.loads(Path(__file__).with_name("stock-sizes.json").read_text())
    found: Row = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="tempo-reading-") as folder:
        for size in options.sizes:
            model = random_model(sizes[size], device)
            stored = store(model, Path(folder) / "states", options.seconds)
            found[size] = measure(model, stored, options.budgets, options.new_tokens, options.repeats)
            if options.out:
                options.out.write_text(json.dumps(found, indent=1))
            del model


if __name__ == "__main__":
    main()
