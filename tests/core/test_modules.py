from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tempo_core.modules import run_layer

HIDDEN = torch.ones(1, 2, 4)
ROTARY = (torch.zeros(1), torch.ones(1))


class LayerUntil523(nn.Module):
    """As a decoder layer of transformers takes its KV cache up to 5.23."""

    def forward(
        self, hidden: torch.Tensor, position_embeddings: Any, attention_mask: Any, past_key_values: Any = None
    ) -> torch.Tensor:
        assert position_embeddings is ROTARY
        updated: torch.Tensor = past_key_values.update(hidden)
        return updated


class LayerSince524(nn.Module):
    def forward(
        self, hidden: torch.Tensor, position_embeddings: Any, attention_mask: Any, cache: Any = None
    ) -> torch.Tensor:
        assert position_embeddings is ROTARY
        updated: torch.Tensor = cache.update(hidden)
        return updated


class KvCache:
    def update(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 1


@pytest.mark.parametrize("layer", [LayerUntil523(), LayerSince524()])
def test_a_layer_is_given_its_cache_by_the_name_that_it_takes(layer: nn.Module) -> None:
    assert torch.equal(run_layer(layer, HIDDEN, ROTARY, None, KvCache()), HIDDEN + 1)
