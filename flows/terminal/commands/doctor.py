"""``tempo doctor``: is everything here that is needed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flows.terminal.options import JsonOption, ModelOption
from flows.terminal.output import Page, print_json

if TYPE_CHECKING:
    from flows.terminal.doctor import Check


def doctor(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """Show what is installed, what is missing and how to get it, and the room on disk and in memory.

    Of the model it says what it is and whether it fits this machine. Exit code 1 if something needed is missing.
    """
    from flows.embedded import EMBEDDED_ID
    from flows.terminal.doctor import healthy, run_checks

    checks = run_checks(model or EMBEDDED_ID)
    if as_json:
        print_json({"ok": healthy(checks), "checks": [check.to_json() for check in checks]})
    else:
        _show(checks, healthy(checks))
    if not healthy(checks):
        raise typer.Exit(1)


def _show(checks: list[Check], is_healthy: bool) -> None:
    page, widest = Page(), max(len(check.name) for check in checks)
    for check in checks:
        mark, style = _mark(check)
        page.line(f"{mark:<7} {check.name:<{widest}}  {check.found}", style=style)
        if check.advice:
            page.line(f"{'':<7} {'':<{widest}}  {check.advice}", style="dim")
    page.line()
    page.line("Everything needed is here." if is_healthy else "Something needed is missing: see above.")


def _mark(check: Check) -> tuple[str, str | None]:
    if check.ok:
        return "ok", None
    return ("missing", "bold red") if check.needed else ("note", "yellow")
