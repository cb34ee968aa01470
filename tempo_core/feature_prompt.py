"""How a model is asked for a feature, as data.

segment:    [chat head][<T seconds>][frame pair]... | [after_segment][chat tail][closing]
question:   [chat head][question][after_question][chat tail][closing]

The hidden state of the last token is the feature. Head and tail are those of the checkpoint's own chat template, the
closing is what its tokenizer puts behind a text.
"""

from __future__ import annotations

from dataclasses import dataclass

# Sum up in one word (the idea of E5-V, arXiv 2407.12580).
SEGMENT_SUMMARY = "\nSummary of the video segment above in one word:"
QUESTION_SUMMARY = "\nSummary of the text above in one word:"


@dataclass(frozen=True)
class FeaturePrompt:
    """The system's words before a segment and before a question, what follows either, and whether a closing does."""

    segment_system: str
    question_system: str
    after_segment: str = ""
    after_question: str = ""
    is_closed: bool = False


def one_word(system: str) -> FeaturePrompt:
    """Of a model that was not made for features. ``system``: its words when it routes, so that both have one prefix."""
    return FeaturePrompt(system, system, SEGMENT_SUMMARY, QUESTION_SUMMARY)


# As its README and its code have it: an instruction in the system's place, which what is searched in has by default.
QWEN3_VL_EMBEDDING = FeaturePrompt(
    segment_system="Represent the user's input.",
    question_system="Retrieve images or text relevant to the user's query.",
    is_closed=True,
)
