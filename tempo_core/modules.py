"""Building the transformers modules without initializing them, and filling them from a checkpoint, strictly.

Modules are made on the meta device and weights are assigned, so a 2 B model costs its file's reading and no more.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3_vl

from tempo_core import grouped_attention
from tempo_core.errors import CheckpointError
from tempo_core.packed_attention import PackedAttention
from tempo_core.weights import WeightFiles

# Never what a config names: that may be a kernel to be fetched from the hub, which would be code of the checkpoint.
_ATTENTION = "sdpa"
# (positions among the flattened embeddings [n], visual states [levels, n, D]): a level is added behind each first layer
Deepstack = tuple[torch.Tensor, torch.Tensor]


class FramePairAttention(qwen3_vl.Qwen3VLVisionAttention):
    """The vision tower's attention with all frame pairs as one batch instead of one call each.

    Attention stays inside a frame pair; the caller gives pairs of one shape, so packed hidden states
    [pairs * tokens, width] fold to [pairs, heads, tokens, head_dim] and one SDPA call serves a layer.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        cu_seqlens: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        max_seqlen: int | None = None,  # noqa: ARG002  the base class passes it, all pairs are of one length here
        **kwargs: Any,  # noqa: ARG002
    ) -> torch.Tensor:
        """[pairs * tokens, width] in and out; ``cu_seqlens`` has one entry more than there are pairs."""
        assert position_embeddings is not None
        length, pairs = hidden_states.shape[0], cu_seqlens.shape[0] - 1
        query, key, value = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1).unbind(1)
        query, key = qwen3_vl.apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        query, key, value = (
            x.reshape(pairs, length // pairs, self.num_heads, -1).transpose(1, 2) for x in (query, key, value)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scaling)
        out: torch.Tensor = self.proj(attended.transpose(1, 2).reshape(length, -1))
        return out


def vision_tower(config: Any) -> nn.Module:
    """An empty Qwen3-VL vision tower with batched frame-pair attention (meta weights, real rotary tables)."""

    def build(cfg: Any) -> nn.Module:
        tower = qwen3_vl.Qwen3VLVisionModel._from_config(cfg, attn_implementation=_ATTENTION)
        for block in tower.blocks:
            block.attn = FramePairAttention(cfg)
        built: nn.Module = tower
        return built

    return _empty(build, config, {"depth": 0, "deepstack_visual_indexes": []})


def text_model(config: Any) -> nn.Module:
    """An empty Qwen3-VL text model (meta weights, real rotary tables)."""
    build = partial(qwen3_vl.Qwen3VLTextModel._from_config, attn_implementation=grouped_attention.NAME)
    return _empty(build, config, {"num_hidden_layers": 0, "vocab_size": 1})


def language_model(config: Any) -> nn.Module:
    """An empty Qwen3 causal language model (meta weights, real rotary tables)."""
    from transformers import Qwen3ForCausalLM

    build = partial(Qwen3ForCausalLM._from_config, attn_implementation=grouped_attention.NAME)
    return _empty(build, config, {"num_hidden_layers": 0, "vocab_size": 1})


class CausalModel(nn.Module):
    """A text model with its ``lm_head`` [vocabulary, D], as ``greedy`` takes a language model."""

    def __init__(self, model: nn.Module, head: torch.Tensor) -> None:
        super().__init__()
        self.model: Any = model
        self.config: Any = model.config
        self._head = head

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.model.embed_tokens
        return embeddings

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(hidden, self._head)


def compile_layers(layers: nn.ModuleList) -> None:
    """Has PyTorch compile decoder layers or vision blocks at their next call: once for all, as they share their code.

    What attends is left out. On an H100 a question's pass behind 128 prefixes of 2 B then takes 46 ms instead of 55.
    """
    # else a layer's index, which its KV cache is asked by, would be taken for a constant, and each layer compiled anew
    torch._dynamo.config.allow_unspec_int_on_nn_module = True
    for layer in layers:
        layer.compile(dynamic=True)


def projector(kind: str, in_size: int, out_size: int) -> nn.Module:
    """An empty ``linear`` or ``mlpNx_gelu`` projector, laid out as LLaVA does (meta weights); ValueError for others."""
    with torch.device("meta"):
        if kind == "linear":
            return nn.Linear(in_size, out_size).eval().requires_grad_(False)
        depth = re.fullmatch(r"mlp([1-9])x_gelu", kind)
        if depth is None:
            raise ValueError(f"mm_projector_type {kind!r} is not linear or mlpNx_gelu")
        layers: list[nn.Module] = [nn.Linear(in_size, out_size)]
        for _ in range(int(depth[1]) - 1):
            layers += [nn.GELU(), nn.Linear(out_size, out_size)]
        return nn.Sequential(*layers).eval().requires_grad_(False)


def run_layers(
    model: Any,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | PackedAttention | None,
    kv_cache: Any = None,
    deepstack: Deepstack | None = None,
) -> torch.Tensor:
    """A text model's decoder layers over embeddings [B, q, D]; what comes out is not final-normed.

    ``positions``: [B, q], or [3, B, q] for M-RoPE. ``kv_cache``: its ``update`` stores keys and values and returns what
    is attended to; None: the new ones, or what packed segments have before them. No ``mask`` means causal.
    """
    rotary = model.rotary_emb(hidden, positions)
    for depth, layer in enumerate(model.layers):
        hidden = run_layer(layer, hidden, rotary, mask, kv_cache)
        if deepstack is not None and depth < len(deepstack[1]):
            hidden.view(-1, hidden.shape[-1]).index_add_(0, deepstack[0], deepstack[1][depth])
    return hidden


def run_layer(
    layer: nn.Module,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | PackedAttention | None,
    kv_cache: Any,
) -> torch.Tensor:
    arguments = {"position_embeddings": rotary, "attention_mask": mask, _cache_argument(type(layer).forward): kv_cache}
    out: torch.Tensor = layer(hidden, **arguments)
    return out


@cache
def _cache_argument(forward: Callable[..., Any]) -> str:
    """``past_key_values`` until transformers 5.24 named it ``cache``; since then the old name warns, until 5.40."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _empty(build: Callable[[Any], nn.Module], config: Any, donor_fields: dict[str, object]) -> nn.Module:
    """``build(config)`` on the meta device, with the buffers (rotary tables) of a real layerless donor."""
    with torch.device("meta"):
        module = build(config)
    donor_config = copy.deepcopy(config)
    for field, value in {**donor_fields, "pad_token_id": None, "layer_types": []}.items():
        if hasattr(donor_config, field):
            setattr(donor_config, field, value)
    for name, buffer in build(donor_config).named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, buffer)
    return module.eval().requires_grad_(False)


def fill(
    module: nn.Module,
    weights: WeightFiles,
    prefix: str,
    dtype: torch.dtype,
    device: torch.device,
    optional: frozenset[str] = frozenset(),
) -> None:
    """Assigns every parameter of ``module`` from ``prefix + name``; CheckpointError names what is missing or differs.

    Under a ``prefix``, a tensor that the module has no parameter for is an error as well.
    """
    parameters = {prefix + name: parameter for name, parameter in module.named_parameters()}
    present = set(weights.names(prefix))
    if prefix and (extra := sorted(present - parameters.keys())):
        raise CheckpointError(f"{weights.folder}: extra tensor {extra[0]}, which is not part of the layout")
    names = [name for name in parameters if name in present or name.removeprefix(prefix) not in optional]
    state = {}
    for name, tensor in weights.tensors(names):
        if tensor.shape != parameters[name].shape or not tensor.is_floating_point():
            raise CheckpointError(
                f"{weights.folder}: tensor {name} is {tensor.dtype} {list(tensor.shape)}, "
                f"the config asks for floats {list(parameters[name].shape)}"
            )
        state[name.removeprefix(prefix)] = tensor.to(device=device, dtype=dtype)
    module.load_state_dict(state, strict=False, assign=True)
    for buffers in module.modules():
        for leaf, buffer in list(buffers.named_buffers(recurse=False)):
            setattr(buffers, leaf, buffer.to(device))
