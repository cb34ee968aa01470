"""What a checkpoint's config may say beside the published keys, and what holds where it says nothing."""

from __future__ import annotations

from tempo_core import FrameGeometry, load_checkpoint
from tempo_core.tempo_checkpoint import require_tempo
from tests.support.altered_checkpoints import Copy, edit_config
from tests.support.golden_cases import golden_checkpoint


def test_context_is_what_the_llm_was_trained_for(copy: Copy) -> None:
    assert golden_checkpoint().answerer.context_tokens == 16384
    edit_config(copy.tempo, max_position_embeddings=4096)
    assert require_tempo(load_checkpoint(copy.tempo)).answerer.context_tokens == 4096
    edit_config(copy.tempo, tokenizer_model_max_length=None)
    assert require_tempo(load_checkpoint(copy.tempo)).answerer.context_tokens == 4096


def test_the_score_of_absence_is_unknown_unless_the_config_has_it(copy: Copy) -> None:
    assert golden_checkpoint().absent_below is None
    edit_config(copy.tempo, absent_below=0.25)
    assert load_checkpoint(copy.tempo).absent_below == 0.25


def test_a_segment_keeps_the_published_4_tokens_unless_the_config_says_otherwise(copy: Copy) -> None:
    assert golden_checkpoint().min_tokens == 4
    edit_config(copy.tempo, min_compression_tokens=1)
    assert require_tempo(load_checkpoint(copy.tempo)).min_tokens == 1


def test_a_segment_keeps_no_more_tokens_than_there_are(copy: Copy) -> None:
    edit_config(copy.tempo, min_compression_tokens=500)
    assert require_tempo(load_checkpoint(copy.tempo)).min_tokens == 128


def test_frame_geometry_is_the_published_one_unless_the_config_has_its_own(copy: Copy) -> None:
    assert golden_checkpoint().geometry == FrameGeometry()
    edit_config(copy.tempo, frame_geometry={"longest_edge": 256, "max_edge_ratio": 20})
    assert load_checkpoint(copy.tempo).geometry == FrameGeometry(longest_edge=256, max_edge_ratio=20.0)
