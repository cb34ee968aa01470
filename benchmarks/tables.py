"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One line a row."""
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def cell(share: Sequence[float]) -> str:
    """A share and its 95 % interval in per cent: ``93.1 (91.2-94.6)``."""
    return "-" if np.isnan(share[0]) else f"{share[0]:.1%} ({share[1]:.1%}-{share[2]:.1%})".replace("%", "")
