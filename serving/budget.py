"""What fits: the token budget, the LLM's context, and how many segments both can hold."""

from __future__ import annotations

from dataclasses import dataclass

from tempo_core.errors import BudgetError

DEFAULT_TOKEN_BUDGET = 4096  # memory tokens; the paper's 4K: LVBench 52.7 against 52.3 at 8K
DEFAULT_VISUAL_BUDGET = 8192  # visual tokens of frame pairs and their tags


@dataclass(frozen=True)
class PromptRoom:
    """What the LLM's prompt has room for, in tokens: ``context`` in all, ``fixed`` chat and question, ``tag`` the
    longest segment tag, ``segment`` the most memory tokens of one segment, ``anchor`` the least."""

    context: int
    fixed: int
    tag: int
    segment: int
    anchor: int


@dataclass(frozen=True)
class BudgetFit:
    """How many segments stay (the most relevant), the ``token_budget`` for them, and warnings for the user."""

    segment_count: int
    token_budget: int
    warnings: tuple[str, ...]


def fit_budget(asked: int | None, segment_count: int, room: PromptRoom) -> BudgetFit:
    """Fits segments first, then memory tokens, into the context; the reference cuts the video's end silently.

    A default budget shrinks with a warning; one that was asked for and does not fit is a BudgetError.
    """
    if asked is not None and asked < 1:
        raise BudgetError(f"a token budget of {asked} holds nothing; it must be at least 1")
    budget = DEFAULT_TOKEN_BUDGET if asked is None else asked
    free = room.context - room.fixed
    kept = min(segment_count, budget, free // (room.tag + room.anchor))
    if kept < 1:
        raise BudgetError(f"the question and answer leave no room in the LLM's context of {room.context} tokens")
    left = free - kept * room.tag
    useful = min(budget, kept * room.segment)
    if asked is not None and useful > left:
        raise BudgetError(
            f"a token budget of {asked} does not fit: {kept} segments' tags and the question leave {left} of the LLM's "
            f"context of {room.context} tokens. Ask for at most {left}."
        )
    return BudgetFit(kept, min(budget, left), _warnings(segment_count, kept, useful, left))


def fit_visual_budget(asked: int | None, segment_count: int, pair: int, useful: int, free: int) -> BudgetFit:
    """Fits visual tokens and their tags into the ``free`` tokens of the context. ``pair``: what a frame pair takes at
    most; ``useful``: what all of them take.

    A default budget shrinks with a warning; one that was asked for and does not fit, or holds no pair, is refused.
    """
    if free < 1:
        raise BudgetError("the question and answer leave no room in the LLM's context")
    if asked is not None and not 1 <= min(asked, useful) <= free:
        raise BudgetError(f"a token budget of {asked:,} does not fit: the LLM's context leaves {free:,} tokens")
    budget = min(DEFAULT_VISUAL_BUDGET if asked is None else asked, free)
    if budget < min(pair, useful):
        raise BudgetError(f"a token budget of {budget:,} holds no frame pair, which takes {pair:,} tokens: raise it")
    lowered = asked is None and free < min(useful, DEFAULT_VISUAL_BUDGET)
    warnings = (f"the token budget was lowered to {free:,}, which is what the LLM's context leaves",) if lowered else ()
    return BudgetFit(segment_count, budget, warnings)


def _warnings(segment_count: int, kept: int, useful: int, left: int) -> tuple[str, ...]:
    warnings = []
    if kept < segment_count:
        warnings.append(f"only the {kept:,} most relevant of {segment_count:,} segments fit; the others were left out")
    if useful > left:
        warnings.append(f"the token budget was lowered to {left:,}, which is what the LLM's context leaves")
    return tuple(warnings)
