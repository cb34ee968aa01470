"""A vision-language model that reads stored visual states: frame pairs with their times, then the question.

The states are the vision tower's own, so reading them gives what the model gives for the frames' pixels. Any frame
pairs can be read, as those of a video can: attention in the tower stays inside a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tempo_core.greedy import Prompt
from tempo_core.prompts import PromptEncoder
from tempo_core.reader import Reader
from tempo_core.states import unpack_rows
from tempo_core.values import SegmentState


class StateReader(Reader):
    """``merge``: patches to a visual token, a side."""

    def __init__(
        self, llm: Any, prompts: PromptEncoder, context_tokens: int, stop_ids: frozenset[int], merge: int
    ) -> None:
        super().__init__(llm, prompts, context_tokens, stop_ids)
        self._merge = merge

    def fixed_tokens(self, question: str) -> int:
        """Prompt tokens of the chat and the question."""
        return self._prompts.read_tokens(question)

    @torch.inference_mode()
    def prompt(self, question: str, states: Sequence[SegmentState], titles: Mapping[int, str] | None = None) -> Prompt:
        """Chat head, for each frame pair of ``states`` its tag and visual tokens, then the question.

        ``titles``: by position of a video's first segment, its title.
        """
        segments = [(state.grid_thw, state.pair_times_s) for state in states]
        tokens = self._prompts.read_pairs(question, segments, self._merge, titles)
        embeds = self._embed_ids(tokens.ids.tolist())
        where = torch.from_numpy(tokens.is_visual).nonzero().squeeze(1).to(self.device)
        deepstack = None
        if states:
            visual = torch.cat([unpack_rows(state, self.device, embeds.dtype) for state in states], dim=1)  # [L, S, D]
            embeds[where] = visual[0]
            deepstack = (where, visual[1:])
        tags = len(tokens.ids) - len(where) - self.fixed_tokens(question)
        return Prompt(embeds, tags, torch.from_numpy(tokens.positions).to(self.device), tokens.next_position, deepstack)
