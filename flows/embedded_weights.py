"""The embedded model's sizes and random tensors, in the published layout (tensor for tensor, but tiny).

Values come from PCG64's raw 64-bit words, whose stream numpy keeps fixed, and exact float32 steps: the same bytes on
every machine.
"""

from __future__ import annotations

import math

import numpy as np

from nano.sizes import Sizes
from nano.tokenizer import vocabulary, words
from tempo_core.values import FloatArray

SEED = 20260404
SIZES = Sizes(
    hidden=64,
    layers=4,
    mlp=128,
    llm_hidden=96,
    llm_layers=3,
    llm_mlp=192,
    heads=4,
    kv_heads=2,
    vision_hidden=32,
    vision_depth=4,
    vision_mlp=64,
    vision_heads=2,
    deepstack=(0, 1, 2),
    memory_tokens=128,
    grid=8,
    context_tokens=16384,
    dtype="float32",
    geometry={  # a quarter of the published edge: an index in seconds on a laptop
        "longest_edge": 160,
        "resize_multiple": 32,
        "min_resized_area": 4 * 32 * 32,
        "min_area": 8 * 32 * 32,
        "max_area": 24 * 32 * 32,
    },
)

Shapes = dict[str, tuple[int, ...]]


def base_tensors() -> dict[str, FloatArray]:
    """The base small VLM's tensors (lm_head tied to the embeddings)."""
    return _random(_svlm_shapes(), SEED)


def tempo_tensors() -> dict[str, FloatArray]:
    """The Tempo checkpoint's tensors: LLM, projector, fine-tuned small VLM, memory tokens.

    The rows of lm_head that are no whole word are zero, so that a greedy answer is nonsense made of words; the row of
    its end is larger, so that most answers do end.
    """
    tower = "model.vision_tower_aux_list.0."
    shapes: Shapes = {"lm_head.weight": (len(vocabulary()), SIZES.llm_hidden)}
    shapes |= _decoder_shapes("model.", SIZES.llm_hidden, SIZES.llm_layers, SIZES.llm_mlp)
    shapes |= _linear("model.mm_projector.0", SIZES.hidden, SIZES.llm_hidden) | _linear(
        "model.mm_projector.2", *[SIZES.llm_hidden] * 2
    )
    shapes |= {f"{tower}compression_tokens": (1, SIZES.memory_tokens, SIZES.hidden)}
    shapes |= {f"{tower}vlm.{name}": shape for name, shape in _svlm_shapes().items()}
    tensors = _random(shapes, SEED + 1)
    ids = vocabulary()
    silent = np.setdiff1d(np.arange(len(ids)), [ids[word] for word in (*words(), "<|im_end|>")])
    tensors["lm_head.weight"][silent] = 0
    tensors["lm_head.weight"][ids["<|im_end|>"]] *= np.float32(2.25)
    return tensors


def _svlm_shapes() -> Shapes:
    return _decoder_shapes("model.language_model.", SIZES.hidden, SIZES.layers, SIZES.mlp) | _vision_shapes(
        "model.visual."
    )


def _decoder_shapes(root: str, hidden: int, layers: int, mlp: int) -> Shapes:
    shapes: Shapes = {f"{root}embed_tokens.weight": (len(vocabulary()), hidden), f"{root}norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        shapes |= {f"{at}{norm}layernorm.weight": (hidden,) for norm in ("input_", "post_attention_")}
        shapes |= {f"{at}self_attn.{name}_norm.weight": (SIZES.head_dim,) for name in "qk"}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (SIZES.kv_heads * SIZES.head_dim, hidden) for name in "kv"}
        shapes[f"{at}self_attn.q_proj.weight"] = (SIZES.heads * SIZES.head_dim, hidden)
        shapes[f"{at}self_attn.o_proj.weight"] = (hidden, SIZES.heads * SIZES.head_dim)
        shapes |= {f"{at}mlp.{name}_proj.weight": (mlp, hidden) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, mlp)
    return shapes


def _vision_shapes(root: str) -> Shapes:
    merged = 4 * SIZES.vision_hidden
    shapes: Shapes = {
        f"{root}patch_embed.proj.weight": (SIZES.vision_hidden, 3, 2, 16, 16),
        f"{root}patch_embed.proj.bias": (SIZES.vision_hidden,),
        f"{root}pos_embed.weight": (SIZES.grid**2, SIZES.vision_hidden),
    }
    for block in range(SIZES.vision_depth):
        at = f"{root}blocks.{block}."
        shapes |= _linear(f"{at}attn.qkv", SIZES.vision_hidden, 3 * SIZES.vision_hidden)
        shapes |= _linear(f"{at}attn.proj", SIZES.vision_hidden, SIZES.vision_hidden)
        shapes |= _linear(f"{at}mlp.linear_fc1", SIZES.vision_hidden, SIZES.vision_mlp)
        shapes |= _linear(f"{at}mlp.linear_fc2", SIZES.vision_mlp, SIZES.vision_hidden)
        shapes |= _norm(f"{at}norm1", SIZES.vision_hidden) | _norm(f"{at}norm2", SIZES.vision_hidden)
    mergers = {
        "merger": SIZES.vision_hidden,
        **{f"deepstack_merger_list.{level}": merged for level in range(len(SIZES.deepstack))},
    }
    for name, normed in mergers.items():
        shapes |= _linear(f"{root}{name}.linear_fc1", merged, merged) | _norm(f"{root}{name}.norm", normed)
        shapes |= _linear(f"{root}{name}.linear_fc2", merged, SIZES.hidden)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _random(shapes: Shapes, seed: int) -> dict[str, FloatArray]:
    words = np.random.PCG64(seed)
    return dict(_tensor(words, name, shape) for name, shape in sorted(shapes.items()))


def _tensor(words: np.random.PCG64, name: str, shape: tuple[int, ...]) -> tuple[str, FloatArray]:
    if len(shape) == 1:
        fill = 0.0 if name.endswith("bias") else 1.0
        return name, np.full(shape, fill, np.float32)
    raw = words.random_raw(math.prod(shape)) >> np.uint64(40)  # 24 bits: exact in float32
    uniform = raw.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return name, (uniform * np.float32(_limit(name, shape))).reshape(shape)


def _limit(name: str, shape: tuple[int, ...]) -> float:
    """Uniform in +-limit has the standard deviation limit / sqrt(3): 1 / sqrt(inputs) for a linear map."""
    if "embed_tokens" in name or "compression_tokens" in name:
        return 0.35
    return math.sqrt(3 / math.prod(shape[1:]))
