"""The embedded model's configs and random tensors, in the published layout (tensor for tensor, but tiny).

Values come from PCG64's raw 64-bit words, whose stream numpy keeps fixed, and exact float32 steps: the same bytes on
every machine.
"""

from __future__ import annotations

import math

import numpy as np

from flows.embedded_tokenizer import vocabulary, word_ids
from tempo_core.values import FloatArray

SEED = 20260404
HIDDEN, SVLM_LAYERS, SVLM_MLP = 64, 4, 128
LLM_HIDDEN, LLM_LAYERS, LLM_MLP = 96, 3, 192
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 32
VISION_HIDDEN, VISION_DEPTH, VISION_MLP, VISION_HEADS = 32, 4, 64, 2
DEEPSTACK = (0, 1, 2)
MEMORY_TOKENS, POSITIONS = 128, 64
FRAME_GEOMETRY = {  # a quarter of the published edge: an index in seconds on a laptop
    "longest_edge": 160,
    "resize_multiple": 32,
    "min_resized_area": 4 * 32 * 32,
    "min_area": 8 * 32 * 32,
    "max_area": 24 * 32 * 32,
}

Shapes = dict[str, tuple[int, ...]]


def base_config() -> dict[str, object]:
    """config.json of the base small VLM (Qwen3-VL)."""
    ids = vocabulary()
    text = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": SVLM_MLP,
        "max_position_embeddings": 32768,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": HEADS,
        "num_hidden_layers": SVLM_LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
        "rope_theta": 5000000.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": len(ids),
    }
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "dtype": "float32",
        "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_vl",
        "text_config": text,
        "tie_word_embeddings": True,
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": _vision_config(),
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
    }


def _vision_config() -> dict[str, object]:
    return {
        "deepstack_visual_indexes": list(DEEPSTACK),
        "depth": VISION_DEPTH,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": VISION_HIDDEN,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": VISION_MLP,
        "model_type": "qwen3_vl",
        "num_heads": VISION_HEADS,
        "num_position_embeddings": POSITIONS,
        "out_hidden_size": HIDDEN,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def tempo_config(base_folder: str) -> dict[str, object]:
    """config.json of the Tempo checkpoint (the answering LLM, a Qwen3)."""
    ids = vocabulary()
    return {
        "architectures": ["TempoQwenForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "dtype": "float32",
        "dynamic_compress": True,
        "eos_token_id": ids["<|im_end|>"],
        "frame_geometry": FRAME_GEOMETRY,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": LLM_HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": LLM_MLP,
        "layer_types": ["full_attention"] * LLM_LAYERS,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "mm_hidden_size": HIDDEN,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower_aux_list": [base_folder],
        "model_type": "tempo_qwen",
        "num_attention_heads": HEADS,
        "num_compression_tokens": MEMORY_TOKENS,
        "num_hidden_layers": LLM_LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": ids["<|endoftext|>"],
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 16384,
        "tokenizer_padding_side": "right",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(ids),
    }


def generation_config() -> dict[str, object]:
    """generation_config.json of the Tempo checkpoint."""
    ids = vocabulary()
    end, pad = ids["<|im_end|>"], ids["<|endoftext|>"]
    return {"_from_model_config": True, "bos_token_id": pad, "eos_token_id": end, "pad_token_id": pad}


def base_tensors() -> dict[str, FloatArray]:
    """The base small VLM's tensors (lm_head tied to the embeddings)."""
    return _random(_svlm_shapes(), SEED)


def tempo_tensors() -> dict[str, FloatArray]:
    """The Tempo checkpoint's tensors: LLM, projector, fine-tuned small VLM, memory tokens.

    The rows of lm_head that are no whole word are zero, so that a greedy answer is nonsense made of words; the row of
    its end is larger, so that most answers do end.
    """
    tower = "model.vision_tower_aux_list.0."
    shapes: Shapes = {"lm_head.weight": (len(vocabulary()), LLM_HIDDEN)}
    shapes |= _decoder_shapes("model.", LLM_HIDDEN, LLM_LAYERS, LLM_MLP)
    shapes |= _linear("model.mm_projector.0", HIDDEN, LLM_HIDDEN) | _linear("model.mm_projector.2", *[LLM_HIDDEN] * 2)
    shapes |= {f"{tower}compression_tokens": (1, MEMORY_TOKENS, HIDDEN)}
    shapes |= {f"{tower}vlm.{name}": shape for name, shape in _svlm_shapes().items()}
    tensors = _random(shapes, SEED + 1)
    silent = np.setdiff1d(np.arange(len(vocabulary())), word_ids())
    tensors["lm_head.weight"][silent] = 0
    tensors["lm_head.weight"][vocabulary()["<|im_end|>"]] *= np.float32(2.25)
    return tensors


def _svlm_shapes() -> Shapes:
    return _decoder_shapes("model.language_model.", HIDDEN, SVLM_LAYERS, SVLM_MLP) | _vision_shapes("model.visual.")


def _decoder_shapes(root: str, hidden: int, layers: int, mlp: int) -> Shapes:
    shapes: Shapes = {f"{root}embed_tokens.weight": (len(vocabulary()), hidden), f"{root}norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        shapes |= {f"{at}{norm}layernorm.weight": (hidden,) for norm in ("input_", "post_attention_")}
        shapes |= {f"{at}self_attn.{name}_norm.weight": (HEAD_DIM,) for name in "qk"}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (KV_HEADS * HEAD_DIM, hidden) for name in "kv"}
        shapes[f"{at}self_attn.q_proj.weight"] = (HEADS * HEAD_DIM, hidden)
        shapes[f"{at}self_attn.o_proj.weight"] = (hidden, HEADS * HEAD_DIM)
        shapes |= {f"{at}mlp.{name}_proj.weight": (mlp, hidden) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, mlp)
    return shapes


def _vision_shapes(root: str) -> Shapes:
    merged = 4 * VISION_HIDDEN
    shapes: Shapes = {
        f"{root}patch_embed.proj.weight": (VISION_HIDDEN, 3, 2, 16, 16),
        f"{root}patch_embed.proj.bias": (VISION_HIDDEN,),
        f"{root}pos_embed.weight": (POSITIONS, VISION_HIDDEN),
    }
    for block in range(VISION_DEPTH):
        at = f"{root}blocks.{block}."
        shapes |= _linear(f"{at}attn.qkv", VISION_HIDDEN, 3 * VISION_HIDDEN)
        shapes |= _linear(f"{at}attn.proj", VISION_HIDDEN, VISION_HIDDEN)
        shapes |= _linear(f"{at}mlp.linear_fc1", VISION_HIDDEN, VISION_MLP)
        shapes |= _linear(f"{at}mlp.linear_fc2", VISION_MLP, VISION_HIDDEN)
        shapes |= _norm(f"{at}norm1", VISION_HIDDEN) | _norm(f"{at}norm2", VISION_HIDDEN)
    mergers = {"merger": VISION_HIDDEN, **{f"deepstack_merger_list.{level}": merged for level in range(len(DEEPSTACK))}}
    for name, normed in mergers.items():
        shapes |= _linear(f"{root}{name}.linear_fc1", merged, merged) | _norm(f"{root}{name}.norm", normed)
        shapes |= _linear(f"{root}{name}.linear_fc2", merged, HIDDEN)
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
