"""The page on the format of a library says what a library is: its example runs, and it names every column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from storage import migrations, open_library
from storage.schemas import CATALOG_SCHEMA, FAILURES_SCHEMA, RETIRED_SCHEMA, segments_schema
from tests.support import ROOT
from tests.support.storage_harness import index, tiny_video

PAGE = (ROOT / "docs" / "library-format.md").read_text()


def test_a_state_is_read_without_tempo_as_the_page_says(tmp_path: Path) -> None:
    index(open_library(str(tmp_path / "library"), create=True), {"/a.mp4": 1})
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("LIBRARY", str(tmp_path / "library")), names)
    np.testing.assert_array_equal(names["state"], tiny_video(1).states[0].rows)


def test_the_page_names_the_schema_and_every_column() -> None:
    assert f"This page describes schema {migrations.schema_version()}." in PAGE
    schemas = (CATALOG_SCHEMA, FAILURES_SCHEMA, RETIRED_SCHEMA, segments_schema(1))
    columns = {name for schema in schemas for name in schema.names}
    assert {name for name in columns if f"`{name}`" not in PAGE} == set()
