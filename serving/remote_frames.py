"""How a model behind a server is given routed segments: the kept frames of frame pairs, as images with their times.

Of each pair one frame is sent, its first, at its own time. An image takes as many tokens as a whole pair, so a second
one would double what the budget counts, for the next sample of the same scene.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from serving.budget import DEFAULT_VISUAL_BUDGET, BudgetFit, fit_visual_budget
from serving.chat_server import ChatServer, Part
from serving.given_pairs import GivenPairs, give_pairs, pairs_cost
from serving.kept_frames import kept_frames
from serving.reading import Pieces, Prepared, Reading, RoutedQuestion, TokenCounts
from serving.selection import SelectedSegment, titles
from serving.stopwatch import Stopwatch
from serving.units import Disk, Units
from storage import Library
from tempo_core.pixels import PAIR
from tempo_core.prompts import EMPTY_QUESTION, time_tag, title_line, whole_text
from tempo_core.router import Router

Frame = tuple[float, bytes]  # its time in seconds and its JPEG


@dataclass(frozen=True)
class RemoteFrames:
    """share frame pairs -> read their frames -> one message."""

    router: Router
    library: Library
    server: ChatServer
    disk: Disk

    @property
    def reader(self) -> None:
        return None

    def fit(
        self,
        question: str,  # noqa: ARG002 - the server's context is not known
        segments: Sequence[SelectedSegment],
        token_budget: int | None,
        max_new_tokens: int,  # noqa: ARG002
    ) -> BudgetFit:
        """What is too much for the server, it refuses."""
        pair, useful = pairs_cost(self.router, segments)
        free = max(useful, DEFAULT_VISUAL_BUDGET if token_budget is None else token_budget)
        return fit_visual_budget(token_budget, len(segments), pair, useful, free)

    def reading(self, routed: RoutedQuestion, fit: BudgetFit, watch: Stopwatch) -> Units[Prepared]:
        given, rule = give_pairs(routed, self.router, fit.token_budget)
        frames = yield from self.disk.load(lambda: self._frames(given), watch)
        shares = [one.share for one in given]
        tokens = sum(one.tokens for one in given)
        own = TokenCounts(tokens - sum(share.tokens for share in shares), tokens, 0)
        content = message(routed.question, frames, titles([one.segment for one in given]))
        return Reading(routed.scores, shares, rule, own, partial(self._pieces, content, frames, own)), None

    def _pieces(
        self, content: Sequence[Part], frames: Sequence[Sequence[Frame]], own: TokenCounts, max_new_tokens: int
    ) -> Pieces:
        """``own``: as the router counts, where the server does not."""
        sizes = [len(jpeg) for segment in frames for _, jpeg in segment]
        key = f"with the key of {self.server.key.variable}" if self.server.key else "without a key"
        self.server.announce(
            f"sending {len(sizes):,} frames ({sum(sizes) / 1e6:.1f} MB) and the question to {self.server.name}, {key}"
        )
        served = yield from self.server.answer(content, max_new_tokens)
        yield TokenCounts(own.tag_tokens, served.prompt_tokens or own.prompt_tokens, served.completion_tokens or 0)

    def _frames(self, given: Sequence[GivenPairs]) -> list[list[Frame]]:
        """Of what is given, in order; each video's are read at once."""
        frames: list[list[Frame]] = []
        for _, group in groupby(given, key=lambda one: one.segment.key.generation):
            of_video = list(group)
            video = of_video[0].segment.video
            kept = kept_frames(self.library, video, [one.segment.record for one in of_video])
            for one, (jpegs, times_s) in zip(of_video, kept, strict=True):
                frames.append([(times_s[PAIR * pair], jpegs[PAIR * pair]) for pair in one.chosen])
        return frames


def message(question: str, frames: Sequence[Sequence[Frame]], introduced: Mapping[int, str]) -> list[Part]:
    """The parts of a message: each frame behind its time, then the question. ``introduced``: by position of a video's
    first segment, its title."""
    parts: list[Part] = []
    for position, of_segment in enumerate(frames):
        lead = title_line(introduced[position]) if position in introduced else ""
        lead = lead.replace("<|", "< |")  # a file's name may be anybody's: the server is to find no control token in it
        for time_s, jpeg in of_segment:
            url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            parts += [_text(lead + time_tag(time_s)), {"type": "image_url", "image_url": {"url": url}}]
            lead = ""
    return [*parts, _text(question or EMPTY_QUESTION)]


def _text(text: str) -> Part:
    return {"type": "text", "text": whole_text(text)}
