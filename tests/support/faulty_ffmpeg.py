"""An ffmpeg that goes wrong for some files: it is slow, hangs, or kills -9 the process that reads or that encodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tempo_core.decoding import find_ffmpeg

SLOW = 'pace="-readrate 0.5"'  # two seconds for one of video
VERY_SLOW = 'pace="-readrate 0.1"'
HELD = 'until [ -e "$state/go" ]; do sleep 0.1; done'  # the test touches it
HANG = "exec sleep 600"
KILL_READER = "kill -9 $PPID; sleep 600"
KILL_ENCODER = """
    raylet=$(awk '/^PPid/ {print $2}' /proc/$PPID/status)
    for pid in $(cat /proc/"$raylet"/task/*/children); do
      case "$(tr '\\0' ' ' < /proc/"$pid"/cmdline)" in ray::Encod*|ray::index*|ray::open*) kill -9 "$pid" ;; esac
    done"""


def after(start: str, fault: str) -> str:
    """``fault`` when a file whose name starts so is being decoded."""
    return f'until grep -q "^{start}" "$state/decodes"; do sleep 0.1; done; sleep 0.5; {fault}'


def once(fault: str, at_most: str = "once") -> str:
    """``fault`` for the first file only, among those with equal ``at_most``."""
    return f'if mkdir "$state/{at_most}" 2>/dev/null; then {fault}\n  fi'


@dataclass(frozen=True)
class FaultyFfmpeg:
    """``program``: its path, for TEMPO_FFMPEG. ``log``: where each decoding is recorded."""

    program: str
    log: Path

    @property
    def decodes(self) -> list[tuple[str, str]]:
        """Of each decoding that was begun: the file's name and the title of the process that reads it."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(name, title.strip()) for name, _, title in (line.partition(" ") for line in lines)]

    def count(self, start: str) -> int:
        """How often a file whose name starts so was decoded."""
        return sum(name.startswith(start) for name, _ in self.decodes)


def faulty_ffmpeg(folder: Path, faults: Mapping[str, str]) -> FaultyFfmpeg:
    """``faults``: shell lines to be run before a file is decoded, by the beginning of the file's name."""
    program, log = folder / "faulty-ffmpeg", folder / "decodes"
    cases = "\n".join(f"  {start}*) {fault} ;;" for start, fault in faults.items())
    program.write_text(f"""#!/bin/sh
ffmpeg="{find_ffmpeg()}" state="{folder}" pace=""
case "$*" in *-filters*|*-version*|*-decoders*) exec "$ffmpeg" "$@" ;; esac
for argument; do case "$argument" in file:*) name="${{argument##*/}}" ;; esac; done
echo "$name $(tr '\\0' ' ' < /proc/$PPID/cmdline)" >> "{log}"
case "$name" in
{cases}
esac
exec "$ffmpeg" $pace "$@"
""")
    program.chmod(0o755)
    return FaultyFfmpeg(str(program), log)
