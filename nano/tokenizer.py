"""The model's tokenizer: a byte-level BPE of the Qwen2 form over the words of its world and its prompts.

Written as plain JSON, so that the bytes are the same whatever versions are installed. Any text can be encoded (every
byte has an entry); each word of a prompt, a question or an answer is one token.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from nano.phrasings import KINDS, PHRASINGS, WHOLE_KINDS, Kind
from nano.questions import all_texts, answers, sought_things
from tempo_core.feature_prompt import QUESTION_SUMMARY, SEGMENT_SUMMARY
from tempo_core.prompts import (
    EMPTY_QUESTION,
    LLM_SYSTEM,
    QWEN3_VL_ROUTING,
    TEMPO_ROUTING,
    RoutingPrompt,
    time_tag,
)


@dataclass(frozen=True)
class Wording:
    """What a model is spoken to in: how it is asked to route, and the kinds of questions."""

    routing: RoutingPrompt
    kinds: tuple[Kind, ...]


TEMPO_WORDING = Wording(TEMPO_ROUTING, KINDS)
STOCK_WORDING = Wording(QWEN3_VL_ROUTING, (*KINDS, *WHOLE_KINDS))
_PROMPTS = (LLM_SYSTEM, EMPTY_QUESTION, SEGMENT_SUMMARY, QUESTION_SUMMARY, time_tag(0))
_CHAT = "system\nuser\nassistant\nYes No\nYes\nNo\nQuery:\nVideo: colour color colours colors"
SPECIAL_TOKENS = (
    *("<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
_SPACE = "Ġ"  # how byte-level BPE writes a leading space
_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].content is string %}{{- messages[0].content }}{%- else %}"
    "{%- for content in messages[0].content %}{%- if 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}"
    "{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}{%- for content in message.content %}"
    "{%- if content.type == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif content.type == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@cache
def words(wording: Wording = TEMPO_WORDING) -> tuple[str, ...]:
    """Every word of the prompts, questions and answers as the byte-level BPE splits it, in order of first use."""
    asked = [form for kind in KINDS for form in PHRASINGS[kind]]
    whole = [
        text
        for kind in wording.kinds
        if kind in WHOLE_KINDS
        for form in PHRASINGS[kind]
        for text in all_texts(kind, form)
    ]
    named = [f"{name.name} {name.names} a an" for name in sought_things()]
    labels = [f"{answer}\n {answer}" for answer in answers()]
    prompts = [wording.routing.system, *_PROMPTS, _CHAT]
    text = "\n".join([*prompts, *(form.format(x="", xs="", a="") for form in asked), *named, *labels, *whole])
    found = re.findall(r"[^\r\nA-Za-z0-9]?[A-Za-z]+", text)
    return tuple(dict.fromkeys(word.replace(" ", _SPACE) for word in found))


@cache
def merges(wording: Wording) -> list[tuple[str, str]]:
    """BPE merges in rank order: what the earlier ones leave of a word is joined from its left.

    A later merge ranks lower, so it cannot break a word that is whole already.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words(wording):
        pieces = _merged(list(word), ranks)
        while len(pieces) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
            pieces = _merged(pieces, ranks)
    return list(ranks)


def _merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """BPE: the best pair first, until none is left."""
    while True:
        pairs = {pair: ranks[pair] for pair in pairwise(pieces) if pair in ranks}
        if not pairs:
            return pieces
        best = min(pairs, key=pairs.__getitem__)
        at = list(pairwise(pieces)).index(best)
        pieces = [*pieces[:at], "".join(best), *pieces[at + 2 :]]


def vocabulary(wording: Wording = TEMPO_WORDING) -> dict[str, int]:
    """Byte-level entry to id: the 256 bytes, then what each merge makes, then the special tokens."""
    entries = [*_byte_alphabet(), *("".join(pair) for pair in merges(wording)), *SPECIAL_TOKENS]
    return {entry: number for number, entry in enumerate(dict.fromkeys(entries))}


def tokenizer_files(wording: Wording = TEMPO_WORDING) -> dict[str, str]:
    """File name to content of everything a tokenizer folder of this form holds."""
    ids, pairs = vocabulary(wording), merges(wording)
    special = {token: ids[token] for token in sorted(SPECIAL_TOKENS)}
    plain = {entry: number for entry, number in ids.items() if entry not in special}
    return {
        "tokenizer.json": _json(_fast_tokenizer(plain, ids, pairs)),
        "vocab.json": _json(plain),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]) + "\n",
        "added_tokens.json": _json(special),
        "special_tokens_map.json": _json(_special_map()),
        "tokenizer_config.json": _json(_tokenizer_config(ids)),
        "chat_template.jinja": CHAT_TEMPLATE,
    }


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, printable bytes first, as Qwen2 vocabularies order them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + extra) for extra in range(256 - len(printable))]


def _fast_tokenizer(words: dict[str, int], ids: dict[str, int], pairs: list[tuple[str, str]]) -> dict[str, object]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[t], "content": t, **_FLAGS, "special": True} for t in SPECIAL_TOKENS],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": words,
            "merges": [list(pair) for pair in pairs],
        },
    }


def _tokenizer_config(ids: dict[str, int]) -> dict[str, object]:
    return {
        "added_tokens_decoder": {str(ids[t]): {"content": t, **_FLAGS, "special": True} for t in SPECIAL_TOKENS},
        "additional_special_tokens": list(SPECIAL_TOKENS),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "extra_special_tokens": {},
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": "<|endoftext|>",
    }


def _special_map() -> dict[str, object]:
    return {
        "additional_special_tokens": [{"content": token, **_FLAGS} for token in SPECIAL_TOKENS],
        "eos_token": {"content": "<|im_end|>", **_FLAGS},
        "pad_token": {"content": "<|endoftext|>", **_FLAGS},
        "unk_token": {"content": "<|endoftext|>", **_FLAGS},
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
