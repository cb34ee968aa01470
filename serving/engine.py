"""The query engine: question + videos -> states -> KV caches -> route -> read -> answer.

select    segments of the videos, or candidates found by their features over a whole library
restore   KV caches from the tiers, else from stored states by one prefill
route     relevance of each segment
read      the token budget shared by relevance, and what each segment gives for it: memory tokens (``memory_tokens``)
          or the visual tokens of frame pairs (``visual_tokens``), or their frames (``remote_frames``)
generate  the answer, streamed: by the model's own reader, or by a server that was named
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from serving.answer import Answer, AskedSegment, SearchHit, Usage, absence, cite
from serving.budget import BudgetFit
from serving.chat_server import ChatServer
from serving.kv_tiers import KvTiers, default_budgets
from serving.memory_tokens import MemoryTokens
from serving.reading import Reading, ReadingMaker, RoutedQuestion, TokenCounts
from serving.remote_frames import RemoteFrames
from serving.restorer import Restorer
from serving.selection import Scope, SelectedSegment, asked_videos, require_videos, select_segments
from serving.stopwatch import Stopwatch
from serving.visual_tokens import VisualTokens
from storage import Library, one_per_content
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import UsageError
from tempo_core.prefix_cache import QuestionCache
from tempo_core.stock_checkpoint import StockCheckpoint
from tempo_core.tempo_checkpoint import TempoCheckpoint
from tempo_core.values import FloatArray

SLAB_SEGMENTS = 32  # segments restored together: 32 prefixes fill a GPU (196 ms of prefill at 2 B on an H200)
DEFAULT_MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class _Asked:
    """A question with what the LLM reads for it. ``scores``: of every segment that it was routed over."""

    question: str
    reading: Reading
    fit: BudgetFit
    scores: FloatArray
    absent: tuple[str, ...]
    warnings: tuple[str, ...]


class Engine:
    """Answers questions over one library with one model, one question at a time.

    KV caches stay between questions within ``device_cache_bytes`` and ``host_cache_bytes`` (None: ``default_budgets``):
    a second question about the same video reads no state and rebuilds nothing. ``server``: what answers instead of the
    model's own reader; the frames that the answer rests on are sent there.
    """

    def __init__(
        self,
        library: Library,
        checkpoint: Checkpoint,
        device_cache_bytes: int | None = None,
        host_cache_bytes: int | None = None,
        server: ChatServer | None = None,
    ) -> None:
        self._library = library
        self._checkpoint = checkpoint
        self._router = checkpoint.router
        device_bytes, host_bytes = default_budgets(self._router.device)
        self._tiers = KvTiers(
            self._router.device,
            device_bytes if device_cache_bytes is None else device_cache_bytes,
            host_bytes if host_cache_bytes is None else host_cache_bytes,
        )
        self._restorer = Restorer(library, self._router, self._tiers)
        self._making = (
            RemoteFrames(self._router, library, server)
            if server is not None
            else reading_maker(library, checkpoint, self._restorer)
        )
        self._read_by = server.name if server is not None else checkpoint.id
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

        ``token_budget``: memory tokens in all, by default 4,096; or visual tokens with their tags, by default 8,192; or
        what the LLM's context leaves, with a warning.
        Raises UsageError for a scope with nothing in it and BudgetError for a budget that does not fit.
        """
        if max_new_tokens < 1:
            raise UsageError("max_new_tokens must be at least 1")
        with self._turn:
            watch = Stopwatch(self._router.device)
            asked = self._read(question, scope or Scope(), token_budget, max_new_tokens, watch)
        yield from self._generate(asked, max_new_tokens, watch)

    def search(self, question: str, scope: Scope | None = None, limit: int = 20) -> list[SearchHit]:
        """Segments nearest to the question by their features, best first; no KV cache is touched."""
        if limit < 1:
            raise UsageError("limit must be at least 1")
        scope = scope or Scope()
        videos = asked_videos(self._library, self._checkpoint, scope)
        feature = self._question_feature(question)
        hits = self._library.search(feature, videos.features, limit, videos.named, scope.times, videos.folder)
        if not hits:
            require_videos(self._library, videos, self._checkpoint)
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

    def _read(
        self, question: str, scope: Scope, token_budget: int | None, max_new_tokens: int, watch: Stopwatch
    ) -> _Asked:
        with watch.step("load"):
            videos = asked_videos(self._library, self._checkpoint, scope)
            segments = select_segments(
                self._library, self._checkpoint, videos, scope, lambda: self._question_feature(question)
            )
        # before anything is read: a question that no context holds would fill the memory
        fit = self._making.fit(question, segments, token_budget, max_new_tokens)
        routed = self._route(question, segments, watch)
        reading = self._making.reading(routed, fit, watch)
        absent = absence(routed.scores, self._checkpoint.absent_below)
        return _Asked(question, reading, fit, routed.scores, absent, (*fit.warnings, *videos.left_out(scope)))

    def _question_feature(self, question: str) -> FloatArray:
        """By the model that made the segments' features, which is loaded where a question first needs one."""
        return self._checkpoint.featurer.question_feature(question)

    def _route(self, question: str, segments: list[SelectedSegment], watch: Stopwatch) -> RoutedQuestion:
        """Scores every segment. Of each KV cache only the question's own part is kept, not the prefixes'."""
        groups = self._tiers.group([segment.key for segment in segments], SLAB_SEGMENTS)
        members = [[segments[i] for i in positions] for positions in groups]
        caches: list[QuestionCache] = []
        for _, cache in self._restorer.caches(members, watch):
            with watch.step("route"):
                caches.append(self._router.read(cache, question).without_prefix())
        return RoutedQuestion(question, segments, groups, caches)

    def _generate(self, asked: _Asked, max_new_tokens: int, watch: Stopwatch) -> Iterator[str | Answer]:
        text: list[str] = []
        pieces = asked.reading.pieces(max_new_tokens)
        while True:
            with watch.step("generate"):
                piece = next(pieces)
            if isinstance(piece, TokenCounts):
                break
            text.append(piece)
            yield piece
        usage = Usage(asked.reading.visual_tokens, asked.fit.token_budget, **vars(piece))
        yield self._answer(asked, "".join(text), usage, watch)

    def _answer(self, asked: _Asked, text: str, usage: Usage, watch: Stopwatch) -> Answer:
        segments = tuple(
            AskedSegment(
                video_id=share.segment.video.video_id,
                uri=share.segment.video.uri,
                index=share.segment.record.index,
                start_s=share.segment.player_start_s,
                end_s=share.segment.player_end_s,
                relevance=share.relevance,
                tokens=share.tokens,
                pairs=share.pairs,
            )
            for share in asked.reading.shares
        )
        videos = one_per_content([share.segment.video for share in asked.reading.shares])
        of_videos = [f"{video.title}: {warning}" for video in videos for warning in video.facts.warnings]
        tells_nothing = asked.absent or asked.reading.rule == "even"  # no score stands out
        return Answer(
            answer=text,
            question=asked.question,
            model=self._checkpoint.id,
            reader=self._read_by,
            fingerprint=videos[0].fingerprints.features,
            warnings=(*asked.warnings, *asked.absent, *of_videos),
            segments=segments,
            citations=() if tells_nothing else cite(segments, asked.scores),
            allocation=asked.reading.rule,
            usage=usage,
            timings_s=watch.timings(),
        )


def reading_maker(library: Library, checkpoint: Checkpoint, restorer: Restorer) -> ReadingMaker:
    """The one that goes with the checkpoint's family."""
    match checkpoint:
        case TempoCheckpoint():
            return MemoryTokens(checkpoint, restorer)
        case StockCheckpoint():
            return VisualTokens(checkpoint, library)
    raise TypeError(f"no reading of a {type(checkpoint).__name__}")
