"""The kinds of questions, and the sentences that ask them: about a moment, or about a whole video."""

from __future__ import annotations

from typing import Literal, get_args

MomentKind = Literal["colour", "shape", "count", "motion", "digit", "happen", "when", "after", "times"]
WholeKind = Literal["most", "first", "last", "different"]
Kind = MomentKind | WholeKind
KINDS: tuple[Kind, ...] = get_args(MomentKind)  # what tempo-nano was trained on
WHOLE_KINDS: tuple[Kind, ...] = get_args(WholeKind)

# {x}: what is sought, without its article. The last one of each kind is never used in training.
PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "colour": (
        "What colour is the {x}?",
        "Which colour is the {x}?",
        "What is the colour of the {x}?",
        "Tell me the colour of the {x}.",
        "Name the colour of the {x}.",
        "Which colour does the {x} have?",
    ),
    "shape": (
        "What shape is the {x}?",
        "Which shape is the {x}?",
        "What is the shape of the {x}?",
        "Which shape does the {x} have?",
        "Name the shape of the {x}.",
        "Tell me the shape of the {x}.",
    ),
    "count": (
        "How many {xs} are there?",
        "How many {xs} can be seen?",
        "What is the number of {xs}?",
        "Name the number of {xs}.",
        "Count the {xs}.",
        "Tell me the number of {xs}.",
    ),
    "motion": (
        "Which way does the {x} move?",
        "Which way does the {x} go?",
        "What is the direction of the {x}?",
        "Tell me the direction of the {x}.",
        "In which direction does the {x} move?",
        "Name the direction of the {x}.",
    ),
    "digit": (
        "Which digit is on the {x}?",
        "What digit is on the {x}?",
        "Which digit does the {x} show?",
        "Tell me the digit on the {x}.",
        "Name the digit on the {x}.",
        "What is the digit on the {x}?",
    ),
    "happen": (
        "Is there {a} {x}?",
        "Does {a} {x} appear?",
        "Can {a} {x} be seen?",
        "Is {a} {x} shown?",
        "Does the video show {a} {x}?",
        "Is {a} {x} there?",
    ),
    "when": (
        "When does the {x} appear?",
        "When is the {x} shown?",
        "When can the {x} be seen?",
        "At what time is the {x} shown?",
        "Tell me the time of the {x}.",
        "At what time does the {x} appear?",
    ),
    "after": (
        "What comes after the {x}?",
        "What appears after the {x}?",
        "What is shown after the {x}?",
        "Tell me what comes after the {x}.",
        "Which thing comes after the {x}?",
        "What can be seen after the {x}?",
    ),
    "times": (
        "How many times does {a} {x} appear?",
        "How many times is {a} {x} shown?",
        "How often does {a} {x} appear?",
        "How often can {a} {x} be seen?",
        "Tell me how often {a} {x} is shown.",
        "How often is {a} {x} shown?",
    ),
    "most": (
        "Which {x} is shown most often?",
        "Which {x} appears most often?",
        "What {x} is seen most often?",
        "Tell me the {x} that is shown most often.",
        "Name the {x} that appears most often.",
        "Which {x} can be seen most often?",
    ),
    "first": (
        "Which {x} comes first?",
        "Which {x} is shown first?",
        "What {x} appears first?",
        "Tell me the first {x}.",
        "Name the first {x} that is shown.",
        "Which {x} appears first?",
    ),
    "last": (
        "Which {x} comes last?",
        "Which {x} is shown last?",
        "What {x} appears last?",
        "Tell me the last {x}.",
        "Name the last {x} that is shown.",
        "Which {x} appears last?",
    ),
    "different": (
        "How many different {xs} are there?",
        "How many different {xs} are shown?",
        "What is the number of different {xs}?",
        "Count the different {xs}.",
        "Name the number of different {xs}.",
        "How many different {xs} can be seen?",
    ),
}
