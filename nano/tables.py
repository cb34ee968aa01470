"""Every prompt of the world as token ids, made once by the code that inference uses, looked up by number.

Shapes: M rows of a table, padded on the right to the longest; ``lengths`` (M,) real tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import Qwen2Tokenizer

from nano.model import GRID
from nano.phrasings import KINDS, PHRASINGS, Kind
from nano.questions import all_texts
from nano.tokenizer import TEMPO_WORDING, Wording, tokenizer_files
from nano.world import LONGEST_ROW, SCENE_LENGTHS_S, SEGMENT_FRAMES
from tempo_core.pixels import MERGE, PAIR
from tempo_core.prompts import PromptEncoder

IntArray = npt.NDArray[np.int64]

PAIRS = SEGMENT_FRAMES // PAIR
ONE_PAIR = (1, GRID, GRID)
LONGEST_ANSWER = 6
ALIGN = 8  # attention kernels want key lengths that are multiples of this


@dataclass(frozen=True)
class Table:
    """``ids`` (M, longest) and ``lengths`` (M,)."""

    ids: IntArray
    lengths: IntArray


@dataclass(frozen=True)
class PrefixTable:
    """Prefixes behind the chat head, a row per scene length and index (``Tables.moment``).

    ``ids``, ``is_visual`` (M, R); ``positions`` (3, M, R); ``visual_places`` (M, S): where the visual tokens are;
    ``lengths``, ``next_positions`` (M,) count the head in.
    """

    ids: IntArray
    is_visual: npt.NDArray[np.bool_]
    positions: IntArray
    visual_places: IntArray
    lengths: IntArray
    next_positions: IntArray


class Tables:
    """All tables, made with the model's own tokenizer, whose files are written to ``folder``."""

    def __init__(self, folder: Path, wording: Wording = TEMPO_WORDING) -> None:
        for name, text in tokenizer_files(wording).items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        self._tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
        self.prompts = PromptEncoder(self._tokenizer, wording.routing)
        self.texts = training_texts(wording.kinds)
        self.text_number = {text: number for number, text in enumerate(self.texts)}

    @staticmethod
    def moment(scene_s: int, index: int) -> int:
        """The row of a segment in ``prefixes`` and ``tags``."""
        return SCENE_LENGTHS_S.index(scene_s) * LONGEST_ROW + index

    @cached_property
    def head(self) -> IntArray:
        """(length,): the chat head that all prefixes begin with."""
        time_s = pair_times(SHORT, 0)[0]
        return self.before_tag(self.prompts.prefix(ONE_PAIR, (time_s,), MERGE).ids, time_s)

    def before_tag(self, ids: IntArray, time_s: float) -> IntArray:
        """What a prompt of one frame pair begins with."""
        tag = self.prompts.tag(time_s)
        begin = next(i for i in range(len(ids)) if list(ids[i : i + len(tag)]) == tag)
        return ids[:begin]

    @cached_property
    def prefixes(self) -> PrefixTable:
        """Every segment's prefix."""
        grid = (PAIRS, GRID, GRID)
        made = [self.prompts.prefix(grid, pair_times(s, i), MERGE) for s, i in moments()]
        begin = len(self.head)
        width = aligned(max(len(one.ids) for one in made)) - begin
        visual = _padded([one.is_visual[begin:] for one in made], width).astype(np.bool_)
        return PrefixTable(
            ids=_padded([one.ids[begin:] for one in made], width),
            is_visual=visual,
            positions=np.stack([_padded([one.positions[axis, begin:] for one in made], width) for axis in range(3)]),
            visual_places=np.stack([np.flatnonzero(row) for row in visual]),
            lengths=np.array([len(one.ids) for one in made]),
            next_positions=np.array([one.next_position for one in made]),
        )

    @cached_property
    def tags(self) -> Table:
        """Every segment's time tag in the LLM's prompt."""
        return table([self.prompts.tag(scene_s * (index + 0.5)) for scene_s, index in moments()])

    @cached_property
    def suffixes(self) -> Table:
        """Every question behind an SVLM prefix."""
        return table([self.prompts.question_suffix(text) for text in self.texts])

    @cached_property
    def summaries(self) -> Table:
        """The prompt of every question's feature."""
        return table([self.prompts.question_summary(text) for text in self.texts])

    @cached_property
    def tails(self) -> Table:
        """The end of the LLM's prompt for every question."""
        return table([self.prompts.answer_tail(text) for text in self.texts])

    @cached_property
    def titles(self) -> Table:
        """What introduces a video where several are asked about: row 0 is no title."""
        stems = ("gate", "hall", "news", "talk", "yard", "cam", "tape", "reel")
        names = [f"{stem}-{number:02}.mp4" for stem, number in product(stems, range(0, 40, 3))]
        return table([[], *(self.prompts.title(name) for name in names)])

    def answer(self, answer: str) -> IntArray:
        """(LONGEST_ANSWER,): the answer and its end of turn, then -100."""
        ids = self._tokenizer.encode(answer, add_special_tokens=False) + [self.prompts.token_id("<|im_end|>")]
        (padded,) = _padded([np.array(ids)], LONGEST_ANSWER, fill=-100)
        return np.asarray(padded)


def aligned(length: int) -> int:
    """The next multiple of ``ALIGN``."""
    return -(-length // ALIGN) * ALIGN


SHORT = SCENE_LENGTHS_S[0]


def training_texts(kinds: Sequence[Kind] = KINDS) -> list[str]:
    """Every question that training may ask, in both spellings of colour."""
    said = [text for kind in kinds for form in PHRASINGS[kind][:-1] for text in all_texts(kind, form)]
    return list(dict.fromkeys(spelled for text in said for spelled in (text, text.replace("colour", "color"))))


def moments() -> list[tuple[int, int]]:
    """Seconds of a scene and its index, of each row that ``Tables.moment`` names."""
    return list(product(SCENE_LENGTHS_S, range(LONGEST_ROW)))


def pair_times(scene_s: int, index: int) -> tuple[float, ...]:
    """The mean of each pair's two sample times."""
    step = scene_s / SEGMENT_FRAMES
    return tuple(scene_s * index + step * (PAIR * pair + 0.5) for pair in range(PAIRS))


def table(rows: Sequence[Sequence[int]]) -> Table:
    """Rows of different lengths as one table."""
    lengths = np.array([len(row) for row in rows])
    return Table(_padded([np.array(row, dtype=np.int64) for row in rows], int(lengths.max())), lengths)


def _padded(rows: Sequence[npt.NDArray[np.generic]], width: int, fill: int = 0) -> IntArray:
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows]).astype(np.int64)
