"""The golden cases on any device and dtype: how far from the published values, which are float32 on a CPU.

    python -m benchmarks.parity --device cuda --dtype bfloat16

Tokens are decoded as the answerer decodes on that device (on CUDA through the captured graph), and the KV caches go
through host memory and back first.
"""

from __future__ import annotations

import argparse

import numpy as np

from serving.kv_tiers import KvTiers, SegmentKey
from tempo_core import allocate, load_checkpoint
from tempo_core.tempo_checkpoint import require_tempo
from tests.support.golden_cases import CASE_NAMES, TEMPO, GoldenCase, golden_case


def compare(case: GoldenCase, device: str, dtype: str) -> list[object]:
    """[case, score, memory token and logit differences (largest), allocations equal, tokens equal]."""
    checkpoint = require_tempo(load_checkpoint(TEMPO, device=device, dtype=dtype))
    compressor, answerer = checkpoint.compressor, checkpoint.answerer
    states = compressor.encode(case.segments)
    prefix = compressor.prefill(states)
    if device != "cpu":
        tiers = KvTiers(compressor.device, device_bytes=0, host_bytes=2 * prefix.nbytes)
        keys = [SegmentKey("golden", case.name, index) for index in range(len(states))]
        tiers.put(keys, prefix)
        back = tiers.get(keys)
        assert back is not None
        assert back.device.type == compressor.device.type
        prefix = back
    read = compressor.read(prefix, case.question)
    tokens = allocate(read.scores, case.token_budget)
    every = compressor.compress(read, case.question, [compressor.max_memory_tokens] * len(states))
    memory = compressor.compress(read, case.question, case.allocation)
    prompt = answerer.prompt(case.question, case.tag_times_s, memory)
    logits = answerer.next_logits(prompt)
    told = [answerer.generate(case.question, case.tag_times_s, memory, max_new_tokens=12).token_ids for _ in range(2)]
    return [
        case.name,
        float(np.abs(read.scores - case.scores).max()),
        max(float(np.abs(own.float().cpu() - theirs).max()) for own, theirs in zip(every, case.features, strict=True)),
        float(np.abs(logits - case.next_logits).max()),
        bool((tokens == case.allocation).all()),
        all(ids == case.generated.tolist() for ids in told),
    ]


def main() -> None:
    """Prints a row per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    print(f"{options.device} {options.dtype}: case, score, memory tokens, logits, allocations equal, tokens equal")
    for name in CASE_NAMES:
        row = compare(golden_case(name), options.device, options.dtype)
        print(" ".join(f"{cell:.1e}" if isinstance(cell, float) else str(cell) for cell in row), flush=True)


if __name__ == "__main__":
    main()
