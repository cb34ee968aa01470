"""The query engine: question + videos -> states -> KV caches -> route -> read -> answer; many questions at once.

select    segments of the videos, or candidates found by their features over a whole library
restore   KV caches from the tiers, else from stored states by one prefill
route     relevance of each segment
read      the token budget shared by relevance, and what each segment gives for it: memory tokens (``memory_tokens``)
          or the visual tokens of frame pairs (``visual_tokens``), or their frames (``remote_frames``)
generate  the answer, streamed: by the model's own reader, beside other answers, or by a server that was named

A caller's thread selects, and makes text of the answer's tokens. The rest is done by the worker's thread, in units of
one slab (``worker``); whose turn it is, the ``scheduler`` says.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from serving.answer import Answer, SearchHit, Usage, absence, cite
from serving.asked_marks import AskedMarks
from serving.budget import BudgetFit
from serving.chat_server import ChatServer
from serving.kv_tiers import KvTiers, default_answer_bytes, default_budgets
from serving.making import reading_maker
from serving.question import Question
from serving.reading import Pieces, Prepared, Reading, RoutedQuestion, own_pieces, timed
from serving.restorer import Restorer
from serving.segment_states import SegmentStates
from serving.selection import Scope, SelectedSegment, asked_videos, require_videos, select_segments
from serving.stopwatch import Stopwatch
from serving.units import Disk, Units
from serving.worker import Worker, worker_of
from storage import Library, one_per_content
from tempo_core.checkpoint_parts import Checkpoint
from tempo_core.errors import UsageError
from tempo_core.prefix_cache import QuestionCache
from tempo_core.values import FloatArray

SLAB_SEGMENTS = 32  # segments restored together: 32 prefixes fill a GPU (196 ms of prefill at 2 B on an H200)
DEFAULT_MAX_NEW_TOKENS = 256
MOST_WAITING = 256  # questions


@dataclass(frozen=True)
class _Asked:
    """A question with what is read for it."""

    text: str
    reading: Reading
    fit: BudgetFit
    warnings: tuple[str, ...]


class Engine:
    """Answers questions over one library with one model, of as many threads as ask.

    KV caches stay between questions within ``device_cache_bytes`` and ``host_cache_bytes`` (None: ``default_budgets``):
    a second question about the same video reads no state and rebuilds nothing. Answers grow side by side within
    ``answer_bytes`` (None: ``default_answer_bytes``), and ``most_waiting`` questions wait for their turn. ``server``:
    what answers instead of the model's own reader; the frames that the answer rests on are sent there. The thread that
    does the work ends when the engine is closed, or nobody has it any more.
    """

    def __init__(
        self,
        library: Library,
        checkpoint: Checkpoint,
        device_cache_bytes: int | None = None,
        host_cache_bytes: int | None = None,
        server: ChatServer | None = None,
        answer_bytes: int | None = None,
        most_waiting: int = MOST_WAITING,
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
        disk = Disk()
        self._restorer = Restorer(SegmentStates(library, self._router), self._router, self._tiers, disk)
        self._making = reading_maker(checkpoint, library, self._restorer, server)
        self._marks = AskedMarks(library)
        self._read_by = server.name if server is not None else checkpoint.id
        if answer_bytes is None:
            answer_bytes = default_answer_bytes(self._router.device)
        self._worker = worker_of(self._making.reader, answer_bytes, most_waiting)
        self._end = weakref.finalize(self, _end, self._worker, disk)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Questions under way end with EngineClosed, as later ones do."""
        self._end()

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
        """The whole answer at once; see ``stream``."""
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
        """Pieces of text as they are generated, at last the Answer, which does not depend on who else asks.

        ``token_budget``: memory tokens in all, by default 4,096; or visual tokens with their tags, by default 8,192; or
        what the LLM's context leaves, with a warning. Closed before its end, it frees what it holds within a token.
        Raises UsageError for a scope with nothing in it, BudgetError for a budget that does not fit, QueueFull where
        too many wait.
        """
        if max_new_tokens < 1:
            raise UsageError("max_new_tokens must be at least 1")
        asking = Question(max_new_tokens=max_new_tokens, watch=Stopwatch(self._router.device))
        self._worker.admit(asking)
        try:
            asked = self._read(asking, question, scope or Scope(), token_budget)
            yield from self._generate(asked, asking)
        finally:
            self._worker.cancel(asking)

    def search(self, question: str, scope: Scope | None = None, limit: int = 20) -> list[SearchHit]:
        """Segments nearest to the question by their features, best first; no KV cache is touched."""
        if limit < 1:
            raise UsageError("limit must be at least 1")
        scope = scope or Scope()
        videos = asked_videos(self._library, self._checkpoint, scope)
        feature = self._feature(question)
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

    def _feature(self, question: str) -> FloatArray:
        """By the model that made the segments' features, which is loaded where a question first needs one."""
        return self._worker.run(lambda: self._checkpoint.featurer.question_feature(question))

    def _read(self, asking: Question, text: str, scope: Scope, token_budget: int | None) -> _Asked:
        """Selects, then waits until the question is prepared."""
        with asking.watch.step("load"):
            videos = asked_videos(self._library, self._checkpoint, scope)
            segments = select_segments(self._library, self._checkpoint, videos, scope, lambda: self._feature(text))
        self._marks.mark(segment.video.video_id for segment in segments)
        # before anything is read: a question that no context holds would fill the memory
        fit = self._making.fit(text, segments, token_budget, asking.max_new_tokens)
        keys = [segment.key for segment in segments]
        units = self._prepare(text, segments, fit, asking.watch)
        self._worker.start(asking, units, is_hot=partial(self._tiers.holds_each, keys))
        return _Asked(text, asking.reading(), fit, (*fit.warnings, *videos.left_out(scope)))

    def _prepare(self, text: str, segments: list[SelectedSegment], fit: BudgetFit, watch: Stopwatch) -> Units[Prepared]:
        with self._tiers.pinned([segment.key for segment in segments]):
            routed = yield from self._route(text, segments, watch)
            prepared = yield from self._making.reading(routed, fit, watch)
        return prepared

    def _route(self, text: str, segments: list[SelectedSegment], watch: Stopwatch) -> Units[RoutedQuestion]:
        """Scores every segment. Of each KV cache only the question's own part is kept, not the prefixes'."""
        groups = self._tiers.group([segment.key for segment in segments], SLAB_SEGMENTS)
        restoring = self._restorer.restoring([[segments[i] for i in positions] for positions in groups])
        caches: list[QuestionCache] = []
        while len(caches) < len(groups):
            slabs = yield from restoring.caches(len(caches), watch)
            with watch.step("route"):
                caches += [read.without_prefix() for read in self._router.read_slabs(slabs, text)]
            yield None
        return RoutedQuestion(text, segments, groups, caches)

    def _generate(self, asked: _Asked, asking: Question) -> Iterator[str | Answer]:
        text: list[str] = []
        pieces = self._pieces(asked.reading, asking)
        while isinstance(piece := next(pieces), str):
            text.append(piece)
            yield piece
        usage = Usage(asked.reading.visual_tokens, asked.fit.token_budget, **vars(piece))
        yield self._answer(asked, "".join(text), usage, asking.watch)

    def _pieces(self, reading: Reading, asking: Question) -> Pieces:
        if reading.served is not None:  # by a server, which this thread may wait for
            return timed(reading.served(asking.max_new_tokens), asking.watch)
        assert self._making.reader is not None
        return own_pieces(self._making.reader, reading.own, asking.token_ids())

    def _answer(self, asked: _Asked, text: str, usage: Usage, watch: Stopwatch) -> Answer:
        segments = asked.reading.segments
        videos = one_per_content([share.segment.video for share in asked.reading.shares])
        of_videos = [f"{video.title}: {warning}" for video in videos for warning in video.facts.warnings]
        absent = absence(asked.reading.scores, self._checkpoint.absent_below)
        tells_nothing = absent or asked.reading.rule == "even"  # no score stands out
        return Answer(
            answer=text,
            question=asked.text,
            model=self._checkpoint.id,
            reader=self._read_by,
            fingerprint=videos[0].fingerprints.features,
            warnings=(*asked.warnings, *absent, *of_videos),
            segments=segments,
            citations=() if tells_nothing else cite(segments, asked.reading.scores),
            allocation=asked.reading.rule,
            usage=usage,
            timings_s=watch.timings(),
        )


def _end(worker: Worker, disk: Disk) -> None:
    worker.close()
    disk.close()
