"""Decoder layers with gradients, of the SVLM and of the LLM alike (Qwen3's and Qwen3-VL's are the same layer).

Written over plain tensors of fixed shapes, so that one compiled function serves every layer; a test holds them equal to
the modules that inference runs. Shapes: rows, new tokens, D hidden, H key-value heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

from nano.sizes import NANO

Tensor = torch.Tensor
KeyValue = tuple[Tensor, Tensor]
_EPSILON = 1e-6


def run_layers(
    layer_function: DecoderLayer,
    decoder: Any,
    hidden: Tensor,
    positions: Tensor,
    past: list[KeyValue] | None,
    mask: Tensor | None,
    deepstack: list[Tensor] | None = None,
    kept: list[KeyValue] | None = None,
) -> Tensor:
    """A decoder's layers over embeddings [rows, new, D], final-normed; no mask means causal.

    ``layer_function`` computes each layer: ``decoder_layer``, compiled or as it is written.
    ``kept`` gets each layer's keys and values, the past's included.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    rotary = decoder.rotary_emb(torch.zeros(1, device=hidden.device), positions)
    nothing = (hidden.new_zeros(0), hidden.new_zeros(0))
    for depth, layer in enumerate(decoder.layers):
        before = past[depth] if past else nothing
        hidden, keys, values = layer_function(_weights(layer), hidden, rotary, before, mask)
        if kept is not None:
            kept.append((keys, values))
        if deepstack is not None and depth < len(deepstack):
            hidden = hidden + deepstack[depth]
    normed: Tensor = decoder.norm(hidden)
    return normed


class LayerWeights(NamedTuple):
    """A decoder layer's tensors: compiled once for all layers, since none of them is a constant of the code."""

    input_norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    query_norm: Tensor
    key_norm: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


DecoderLayer = Callable[[LayerWeights, Tensor, KeyValue, KeyValue, Tensor | None], tuple[Tensor, Tensor, Tensor]]


def _weights(layer: Any) -> LayerWeights:
    at, mlp = layer.self_attn, layer.mlp
    linear = (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
    return LayerWeights(
        layer.input_layernorm.weight,
        *(at.q_proj.weight, at.k_proj.weight, at.v_proj.weight, at.q_norm.weight, at.k_norm.weight, at.o_proj.weight),
        layer.post_attention_layernorm.weight,
        *linear,
    )


def decoder_layer(
    w: LayerWeights, hidden: Tensor, rotary: KeyValue, past: KeyValue, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer, and its keys and values with the past's before them."""
    linear: Any = nn.functional.linear
    shape = (*hidden.shape[:2], -1, NANO.head_dim)
    normed = _rms_norm(hidden, w.input_norm)
    query = _rms_norm(linear(normed, w.query).view(shape), w.query_norm).transpose(1, 2)
    key = _rms_norm(linear(normed, w.key).view(shape), w.key_norm).transpose(1, 2)
    value = linear(normed, w.value).view(shape).transpose(1, 2)
    query, key = (x.to(value.dtype) for x in apply_rotary_pos_emb(query, key, *rotary))
    if past[0].numel():
        key = torch.cat([past[0].expand(len(key), -1, -1, -1), key], dim=2)
        value = torch.cat([past[1].expand(len(value), -1, -1, -1), value], dim=2)
    groups = NANO.heads // NANO.kv_heads
    attended = nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), mask, is_causal=mask is None
    )
    hidden = hidden + linear(attended.transpose(1, 2).flatten(2), w.output)
    normed = _rms_norm(hidden, w.mlp_norm)
    inner = nn.functional.silu(linear(normed, w.gate)) * linear(normed, w.up)
    return hidden + linear(inner, w.down), key, value


def _rms_norm(hidden: Tensor, weight: Tensor) -> Tensor:
    wide = hidden.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPSILON)).to(hidden.dtype)
