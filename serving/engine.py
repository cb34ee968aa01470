"""The query engine: question + videos -> states -> KV caches -> route -> allocate -> compress -> answer.

select    segments of the videos, or candidates found by their features over a whole library
restore   KV caches from the tiers, else from stored states by one prefill
route     exact relevance of each segment; no memory token is computed yet
allocate  Adaptive Token Allocation under the token budget and the LLM's context
compress  only the allocated memory tokens
generate  the LLM's answer, streamed
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.answer import Answer, AskedSegment, SearchHit, Usage, absence, cite, most_relevant
from serving.budget import BudgetFit, PromptRoom, fit_budget
from serving.kv_tiers import KvTiers, default_budgets
from serving.restorer import Restorer
from serving.selection import Scope, SelectedSegment, asked_videos, require_videos, select_segments, titles
from serving.stopwatch import Stopwatch
from storage import Library, one_per_content
from tempo_core.allocation import allocate
from tempo_core.checkpoint import Checkpoint
from tempo_core.errors import UsageError
from tempo_core.prefix_cache import QuestionCache
from tempo_core.values import FloatArray

SLAB_SEGMENTS = 32  # segments restored together: 32 prefixes fill a GPU (196 ms of prefill at 2 B on an H200)
DEFAULT_MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class _RoutedQuestion:
    """A question read over segments. ``groups``: positions that share a slab; ``caches``: the question's, one each."""

    question: str
    segments: list[SelectedSegment]
    groups: list[list[int]]
    caches: list[QuestionCache]

    @property
    def scores(self) -> FloatArray:
        """Relevance of each segment, (segments,)."""
        scores = np.zeros(len(self.segments), dtype=np.float32)
        for positions, cache in zip(self.groups, self.caches, strict=True):
            scores[positions] = cache.scores
        return scores


@dataclass(frozen=True)
class _Prompt:
    """The segments that the LLM sees, in order, with their relevance and memory tokens."""

    question: str
    segments: list[SelectedSegment]
    scores: FloatArray
    memory: list[FloatArray]
    fit: BudgetFit
    warnings: tuple[str, ...]


class Engine:
    """Answers questions over one library with one model, one question at a time.

    KV caches stay between questions within ``device_cache_bytes`` and ``host_cache_bytes`` (None: ``default_budgets``):
    a second question about the same video reads no state and rebuilds nothing.
    """

    def __init__(
        self,
        library: Library,
        checkpoint: Checkpoint,
        device_cache_bytes: int | None = None,
        host_cache_bytes: int | None = None,
    ) -> None:
        self._library = library
        self._checkpoint = checkpoint
        self._compressor = checkpoint.compressor
        self._answerer = checkpoint.answerer
        device_bytes, host_bytes = default_budgets(self._compressor.device)
        self._tiers = KvTiers(
            self._compressor.device,
            device_bytes if device_cache_bytes is None else device_cache_bytes,
            host_bytes if host_cache_bytes is None else host_cache_bytes,
        )
        self._restorer = Restorer(library, self._compressor, self._tiers)
        self._turn = threading.RLock()  # the tiers and the LLM's slab serve one question at a time

    @property
    def cache_nbytes(self) -> tuple[int, int]:
        """Bytes of KV caches kept on the device and in host memory."""
        return self._tiers.nbytes

    def ask(
        self,
        question: str,
        scope: Scope | None = None,
        token_budget: int | None = None,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    ) -> Answer:
        """The whole answer at once; see ``stream``. Other threads that ask wait for their turn."""
        with self._turn:
            *_, answer = self.stream(question, scope, token_budget, max_new_tokens)
        assert isinstance(answer, Answer)
        return answer

    def stream(
        self,
        question: str,
        scope: Scope | None = None,
        token_budget: int | None = None,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    ) -> Iterator[str | Answer]:
        """Pieces of text as they are generated, at last the Answer; AnswerInterrupted if another is asked meanwhile.

        ``token_budget``: memory tokens in all; by default 4,096, or what the LLM's context leaves, with a warning.
        Raises UsageError for a scope with nothing in it and BudgetError for a budget that does not fit.
        """
        if max_new_tokens < 1:
            raise UsageError("max_new_tokens must be at least 1")
        with self._turn:
            watch = Stopwatch(self._compressor.device)
            prompt = self._prompt(question, scope or Scope(), token_budget, max_new_tokens, watch)
        yield from self._generate(prompt, max_new_tokens, watch)

    def search(self, question: str, scope: Scope | None = None, limit: int = 20) -> list[SearchHit]:
        """Segments nearest to the question by their features, best first; no KV cache is touched."""
        if limit < 1:
            raise UsageError("limit must be at least 1")
        scope = scope or Scope()
        videos = asked_videos(self._library, self._checkpoint, scope)
        feature = self._compressor.question_feature(question)
        hits = self._library.search(feature, videos.features, limit, videos.named, scope.times, videos.folder)
        if not hits:
            require_videos(self._library, videos, self._checkpoint.id)
        return [
            SearchHit(
                video_id=hit.video.video_id,
                uri=hit.video.uri,
                title=hit.video.title,
                index=hit.segment.index,
                start_s=hit.segment.start_s + hit.video.facts.start_s,
                end_s=hit.segment.end_s + hit.video.facts.start_s,
                score=hit.score,
            )
            for hit in hits
        ]

    def _prompt(
        self, question: str, scope: Scope, token_budget: int | None, max_new_tokens: int, watch: Stopwatch
    ) -> _Prompt:
        with watch.step("load"):
            videos = asked_videos(self._library, self._checkpoint, scope)
            segments = select_segments(
                self._library, self._checkpoint, videos, scope, lambda: self._compressor.question_feature(question)
            )
        # before anything is read: a question that no context holds would fill the memory
        fit = fit_budget(token_budget, len(segments), self._room(question, segments, max_new_tokens))
        routed = self._route(question, segments, watch)
        scores = routed.scores
        kept, tokens = self._allocate(scores, fit)
        memory = self._compress(routed, tokens, watch)
        warnings = (*fit.warnings, *videos.left_out(scope))
        return _Prompt(question, [segments[i] for i in kept], scores[kept], [memory[i] for i in kept], fit, warnings)

    def _route(self, question: str, segments: list[SelectedSegment], watch: Stopwatch) -> _RoutedQuestion:
        """Scores every segment. Of each KV cache only the question's own part is kept, not the prefixes'."""
        groups = self._tiers.group([segment.key for segment in segments], SLAB_SEGMENTS)
        members = [[segments[i] for i in positions] for positions in groups]
        caches: list[QuestionCache] = []
        for _, cache in self._restorer.caches(members, watch):
            with watch.step("route"):
                caches.append(self._compressor.read(cache, question).without_prefix())
        return _RoutedQuestion(question, segments, groups, caches)

    def _allocate(self, scores: FloatArray, fit: BudgetFit) -> tuple[list[int], npt.NDArray[np.int64]]:
        kept = most_relevant(scores, fit.segment_count)
        most = self._compressor.max_memory_tokens
        tokens = np.zeros(len(scores), dtype=np.int64)
        tokens[kept] = allocate(scores[kept], fit.token_budget, self._checkpoint.min_tokens, most)
        return kept, tokens

    def _compress(
        self, routed: _RoutedQuestion, tokens: npt.NDArray[np.int64], watch: Stopwatch
    ) -> dict[int, FloatArray]:
        """Memory tokens by position, of the groups that were given any.

        Groups go backwards: what routing used last is still on the device.
        """
        order = [group for group, positions in enumerate(routed.groups) if tokens[positions].any()][::-1]
        members = [[routed.segments[i] for i in routed.groups[group]] for group in order]
        memory: dict[int, FloatArray] = {}
        for step, cache in self._restorer.caches(members, watch):
            positions, question = routed.groups[order[step]], routed.caches[order[step]]
            with watch.step("compress"):
                tokens_of_group = self._compressor.compress(question.on(cache), routed.question, tokens[positions])
            memory.update(zip(positions, tokens_of_group, strict=True))
        return memory

    def _room(self, question: str, segments: Sequence[SelectedSegment], max_new_tokens: int) -> PromptRoom:
        introduced = sum(self._answerer.title_tokens(title) for title in titles(segments).values())
        return PromptRoom(
            context=self._answerer.context_tokens,
            fixed=self._answerer.fixed_tokens(question) + introduced + max_new_tokens,
            tag=max(self._answerer.tag_tokens(segment.record.tag_time_s) for segment in segments),
            segment=self._compressor.max_memory_tokens,
            anchor=self._checkpoint.min_tokens,
        )

    def _generate(self, prompt: _Prompt, max_new_tokens: int, watch: Stopwatch) -> Iterator[str | Answer]:
        with watch.step("generate"):
            tags = [segment.record.tag_time_s for segment in prompt.segments]
            built = self._answerer.prompt(prompt.question, tags, prompt.memory, titles(prompt.segments))
        token_ids: list[int] = []
        text: list[str] = []
        pieces = self._answerer.text_pieces(_recording(self._answerer.token_ids(built, max_new_tokens), token_ids))
        while True:
            with watch.step("generate"):
                piece = next(pieces, None)
            if piece is None:
                break
            text.append(piece)
            yield piece
        visual = sum(len(tokens) for tokens in prompt.memory)
        usage = Usage(visual, prompt.fit.token_budget, built.tag_tokens, len(built), len(token_ids))
        yield self._answer(prompt, "".join(text), usage, watch)

    def _answer(self, prompt: _Prompt, text: str, usage: Usage, watch: Stopwatch) -> Answer:
        segments = tuple(
            AskedSegment(
                video_id=segment.video.video_id,
                uri=segment.video.uri,
                index=segment.record.index,
                start_s=segment.player_start_s,
                end_s=segment.player_end_s,
                relevance=float(score),
                tokens=len(memory),
            )
            for segment, score, memory in zip(prompt.segments, prompt.scores, prompt.memory, strict=True)
        )
        videos = one_per_content([segment.video for segment in prompt.segments])
        of_videos = [f"{video.title}: {warning}" for video in videos for warning in video.facts.warnings]
        absent = absence(segments, self._checkpoint.absent_below)
        return Answer(
            answer=text,
            question=prompt.question,
            model=self._checkpoint.id,
            fingerprint=videos[0].fingerprints.features,
            warnings=(*prompt.warnings, *absent, *of_videos),
            segments=segments,
            citations=() if absent else cite(segments),
            usage=usage,
            timings_s=watch.timings(),
        )


def _recording(token_ids: Iterator[int], seen: list[int]) -> Iterator[int]:
    """The same ids, each appended to ``seen``."""
    for token_id in token_ids:
        seen.append(token_id)
        yield token_id
