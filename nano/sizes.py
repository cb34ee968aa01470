"""A model's shape as configs: of the Tempo checkpoint and its base in the published layout, and of a stock Qwen3-VL.

``NANO``: 13 M parameters, 26 MB in bfloat16; frames are 96 pixels along their longest edge, so that a laptop's CPU
answers in seconds. The stock model is its small vision-language model alone, 8 M parameters, which reads by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nano.tokenizer import STOCK_WORDING, vocabulary


@dataclass(frozen=True)
class Sizes:
    """Widths and depths. ``grid``: patches along the edge of the learned position grid. ``geometry``: of frames."""

    hidden: int = 256
    layers: int = 6
    mlp: int = 640
    llm_hidden: int = 256
    llm_layers: int = 6
    llm_mlp: int = 640
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    vision_hidden: int = 192
    vision_depth: int = 4
    vision_mlp: int = 512
    vision_heads: int = 6
    deepstack: tuple[int, ...] = (1, 2)
    memory_tokens: int = 16
    min_tokens: int = 1  # of 16, where the published model keeps 4 of 128
    grid: int = 6
    context_tokens: int = 8192
    absent_below: float = 0.368  # benchmarks/relevance.py
    dtype: str = "bfloat16"
    geometry: dict[str, int] = field(
        default_factory=lambda: {
            "longest_edge": 96,
            "resize_multiple": 32,
            "min_resized_area": 4 * 32 * 32,
            "min_area": 4 * 32 * 32,
            "max_area": 9 * 32 * 32,
        }
    )


NANO = Sizes()
TEMPO, BASE, STOCK = "tempo-nano", "tempo-nano-base", "nano-vl"  # the folders
SVLM_ROPE_THETA, LLM_ROPE_THETA = 10_000.0, 50_000.0
STOCK_CONTEXT_TOKENS = 16_384  # all 512 frame pairs of a video take 10,240


def base_config() -> dict[str, object]:
    """config.json of the base small VLM (Qwen3-VL)."""
    return _svlm_config(vocabulary(), NANO.context_tokens, SVLM_ROPE_THETA)


def stock_config() -> dict[str, object]:
    """config.json of the model of stock layout."""
    config = _svlm_config(vocabulary(STOCK_WORDING), STOCK_CONTEXT_TOKENS, LLM_ROPE_THETA)
    return {**config, "frame_geometry": NANO.geometry}


def _svlm_config(ids: dict[str, int], context_tokens: int, rope_theta: float) -> dict[str, object]:
    text = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": NANO.head_dim,
        "hidden_act": "silu",
        "hidden_size": NANO.hidden,
        "initializer_range": 0.02,
        "intermediate_size": NANO.mlp,
        "max_position_embeddings": context_tokens,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": NANO.heads,
        "num_hidden_layers": NANO.layers,
        "num_key_value_heads": NANO.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
        "rope_theta": rope_theta,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": len(ids),
    }
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "dtype": NANO.dtype,
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
        "deepstack_visual_indexes": list(NANO.deepstack),
        "depth": NANO.vision_depth,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": NANO.vision_hidden,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": NANO.vision_mlp,
        "model_type": "qwen3_vl",
        "num_heads": NANO.vision_heads,
        "num_position_embeddings": NANO.grid**2,
        "out_hidden_size": NANO.hidden,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def tempo_config() -> dict[str, object]:
    """config.json of the Tempo checkpoint (the answering LLM, a Qwen3)."""
    ids = vocabulary()
    return {
        "absent_below": NANO.absent_below,
        "architectures": ["TempoQwenForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        "dtype": NANO.dtype,
        "dynamic_compress": True,
        "eos_token_id": ids["<|im_end|>"],
        "frame_geometry": NANO.geometry,
        "head_dim": NANO.head_dim,
        "hidden_act": "silu",
        "hidden_size": NANO.llm_hidden,
        "initializer_range": 0.02,
        "intermediate_size": NANO.llm_mlp,
        "layer_types": ["full_attention"] * NANO.llm_layers,
        "max_position_embeddings": NANO.context_tokens,
        "max_window_layers": 28,
        "min_compression_tokens": NANO.min_tokens,
        "mm_hidden_size": NANO.hidden,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower_aux_list": [BASE],
        "model_type": "tempo_qwen",
        "num_attention_heads": NANO.heads,
        "num_compression_tokens": NANO.memory_tokens,
        "num_hidden_layers": NANO.llm_layers,
        "num_key_value_heads": NANO.kv_heads,
        "pad_token_id": ids["<|endoftext|>"],
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": LLM_ROPE_THETA,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": NANO.context_tokens,
        "tokenizer_padding_side": "right",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(ids),
    }


def generation_config(ids: dict[str, int]) -> dict[str, object]:
    """generation_config.json of a model that answers."""
    end, pad = ids["<|im_end|>"], ids["<|endoftext|>"]
    return {"_from_model_config": True, "bos_token_id": pad, "eos_token_id": end, "pad_token_id": pad}


def processor_configs() -> dict[str, object]:
    """A Qwen3-VL's processor files; the sizes in them are not what is used (``Sizes.geometry``)."""
    shared = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "processor_class": "Qwen3VLProcessor",
    }
    image = {"image_processor_type": "Qwen2VLImageProcessorFast", "size": _edges(16777216, 65536)}
    video = {"video_processor_type": "Qwen3VLVideoProcessor", "size": _edges(25165824, 4096)}
    return {"preprocessor_config.json": image | shared, "video_preprocessor_config.json": video | shared}


def _edges(longest: int, shortest: int) -> dict[str, int]:
    return {"longest_edge": longest, "shortest_edge": shortest}
