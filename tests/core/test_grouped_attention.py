from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tempo_core.grouped_attention import grouped_attention


class _Layer(torch.nn.Module):
    """What transformers asks of the layer that attends."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = True


def _inputs(heads: int, kv_heads: int, places: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = 16
    return (
        torch.randn(1, heads, 1, width),
        torch.randn(1, kv_heads, places, width),
        torch.randn(1, kv_heads, places, width),
    )


@pytest.mark.parametrize(("heads", "kv_heads", "seen"), [(4, 4, 1), (8, 2, 5), (8, 1, 40)])
def test_one_token_attends_as_transformers_own_attention_does(heads: int, kv_heads: int, seen: int) -> None:
    query, key, value = _inputs(heads, kv_heads, places=40)
    mask = torch.zeros(1, 1, 1, 40, dtype=torch.bool)
    mask[..., :seen] = True
    layer = _Layer(heads // kv_heads)
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.3)
    found, _ = grouped_attention(layer, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_what_is_masked_has_no_influence() -> None:
    query, key, value = _inputs(8, 2, places=6)
    mask = torch.tensor([True, True, False, True, False, False]).view(1, 1, 1, 6)
    changed = value.clone()
    changed[:, :, [2, 4, 5]] = 1e6
    before, after = (grouped_attention(_Layer(4), query, key, one, mask)[0] for one in (value, changed))
    assert torch.equal(before, after)


def test_a_prompt_of_several_tokens_goes_to_sdpa_causally() -> None:
    query, key, value = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 16)
    layer = _Layer(2)
    expected, _ = sdpa_attention_forward(layer, query, key, value, None, scaling=0.25)
    found, _ = grouped_attention(layer, query, key, value, None, scaling=0.25)
    assert torch.equal(found, expected)
