"""The picture of the Ray dashboard in docs/operations.md: ``python -m benchmarks.ray_dashboard``.

Indexes a dozen videos of a minute on a Ray of this machine and photographs its job page in Chromium while it works.
Needs ``chromium`` and ``chromedriver`` (Debian: the packages chromium and chromium-driver).
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tempo_core.decoding import find_ffmpeg

PICTURE = Path(__file__).parent.parent / "docs" / "ray-dashboard.png"
ADDRESS = re.compile(r"http address: (127\.0\.0\.1:\d+)")  # in the dashboard's log
VIDEOS, SECONDS, SIZE = 12, 60, "640x360"
DEADLINE_S = 240.0
CHROMIUM = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1440,2000"
).split()
# The job page with its two tables open and what is beside the point closed; false until the page is there.
FIND = """
const find = text => document.evaluate(`//*[text()[normalize-space()="${text}"]]`, document, null,
  XPathResult.FIRST_ORDERED_NODE_TYPE, null).singleNodeValue;
"""
ARRANGE = f"""{FIND}
if (!find("Actor Table")) return false;
for (const text of ["Logs", "Task Timeline (beta)", "Cluster status and autoscaler", "Task Table", "Actor Table"])
  [...document.querySelectorAll("*")].filter(one => [...one.childNodes].some(part => part.nodeType === 3
    && part.textContent.trim() === text) && !one.closest("nav, header, a, button")).forEach(one => one.click());
return true;
"""
SCROLL = f"""{FIND} find("Ray Core Overview").scrollIntoView(); window.scrollBy(0, -110);"""


def main() -> None:
    """Make the videos, start the run, take the picture while it works, let it end."""
    with tempfile.TemporaryDirectory(prefix="tempo-dashboard-") as name:
        folder = Path(name)
        for number in range(VIDEOS):
            _video(folder / f"talk-{number:02}.mp4", number)
        command = [sys.executable, "-m", "flows.cli", "index", name, "--library", f"{name}/lib", "--ray", "local"]
        environment = {**os.environ, "RAY_TMPDIR": name}
        with subprocess.Popen([*command, "--settle", "0"], env=environment) as run:
            _wait_for_work(run, folder)
            _photograph(_dashboard(folder))
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


def _video(path: Path, number: int) -> None:
    source = f"testsrc2=size={SIZE}:rate=12:duration={SECONDS},hue=h={30 * number}"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", "-q:v", "5", str(path)]
    subprocess.run(command, check=True, timeout=DEADLINE_S)


def _dashboard(folder: Path) -> str:
    """Its address, empty until there is one."""
    logs = folder.glob("ray/session_latest/logs/dashboard.log")
    found = ADDRESS.search("".join(log.read_text() for log in logs))
    return f"http://{found[1]}" if found else ""


def _wait_for_work(run: subprocess.Popen[bytes], folder: Path) -> None:
    """Until some videos are done and others are being decoded and indexed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and run.poll() is None:
        states = {(task["name"].partition(" ")[0], task["state"]) for task in _tasks(_dashboard(folder))}
        if {("index", "FINISHED"), ("index", "RUNNING"), ("decode", "RUNNING")} <= states:
            return
        time.sleep(0.5)
    raise SystemExit("the run ended, or did not come to work, before the picture was taken")


def _tasks(dashboard: str) -> list[dict[str, Any]]:
    try:
        token = (Path.home() / ".ray" / "auth_token").read_text().strip()
        request = Request(f"{dashboard}/api/v0/tasks?limit=1000", headers={"Authorization": f"Bearer {token}"})
        with urlopen(request, timeout=10) as answer:
            tasks: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
            return tasks
    except (OSError, ValueError):  # it is coming up, or going
        return []


def _photograph(dashboard: str, port: int = 9515) -> None:
    """Through ChromeDriver, which speaks plain HTTP."""
    with subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL) as driver:
        try:
            session = _session(f"http://127.0.0.1:{port}/session")
            _ask(f"{session}/url", url=dashboard)
            token = (Path.home() / ".ray" / "auth_token").read_text().strip()
            _ask(f"{session}/cookie", cookie={"name": "ray-authentication-token", "value": token})
            _ask(f"{session}/url", url=f"{dashboard}/#/jobs/01000000")
            _ask(f"{session}/refresh")
            _arrange(session)
            _ask(f"{session}/execute/sync", script=SCROLL, args=[])
            with urlopen(f"{session}/screenshot", timeout=30) as answer:
                PICTURE.write_bytes(base64.b64decode(json.load(answer)["value"]))
            urlopen(Request(session, method="DELETE"), timeout=30).close()
        finally:
            driver.terminate()


def _arrange(session: str) -> None:
    for _ in range(60):
        if _ask(f"{session}/execute/sync", script=ARRANGE, args=[]):
            time.sleep(3)  # the tables load
            return
        time.sleep(0.5)
    raise SystemExit("the job page of the dashboard did not come, or has other headings than Ray 2.60's")


def _session(url: str) -> str:
    """A browser, as soon as ChromeDriver is up."""
    browser = {"browserName": "chrome", "goog:chromeOptions": {"args": CHROMIUM}}
    for _ in range(40):
        try:
            return f"{url}/{_ask(url, capabilities={'alwaysMatch': browser})['sessionId']}"
        except URLError:
            time.sleep(0.25)
    raise SystemExit("ChromeDriver did not start")


def _ask(command: str, **body: Any) -> Any:
    """One command of the WebDriver protocol."""
    request = Request(command, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


if __name__ == "__main__":
    main()
