"""What several tests stand on: servers, videos, libraries, commands as a user runs them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the checkout
