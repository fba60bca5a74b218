"""Pictures of the Dagster UI over a data folder after a demo, taken with Chromium and Playwright.

    FLYWHEEL_HOME=data python bench/screenshots.py docs/images

Writes graph.png (the asset graph), version.png (a corpus version's metadata, its plot opened) and checks.png (the
checks of the corpus). The UI is started on a free port of 127.0.0.1, and ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, sync_playwright

from flywheel import settings
from flywheel.corpus.manifest import manifest
from flywheel.wheel import config
from flywheel.wheel.versions import Version

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BESIDE = ".bp5-dialog {position: fixed; right: 24px; bottom: 12px; margin: 0} .bp5-overlay-backdrop {opacity: 0}"
PATIENCE = 180
MARGIN = 24


@contextmanager
def served() -> Iterator[str]:
    """The address of a UI over the data folder; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("flywheel"), "ui", "--port", str(port)]
    # A shell lets what it starts in the background ignore interrupts, and the UI would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + PATIENCE
        while not _answers(f"{url}/server_info"):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the UI did not start: try `flywheel ui`")
            time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


@contextmanager
def browser(width: int, height: int, scale: float = 1) -> Iterator[BrowserContext]:
    """A fresh headless Chromium whose pages have the given size, with the UI's navigation folded in."""
    executable = shutil.which("chromium")
    if not executable:
        raise SystemExit("there is no chromium on this machine")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            args=CHROMIUM,
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
        )
        context.add_init_script("localStorage.setItem('dagster-nav-collapsed', 'true')")
        yield context
        context.close()


def graph(page: Page, url: str, target: Path) -> None:
    """The whole asset graph, every group opened, left to right."""
    page.goto(f"{url}/asset-groups")
    page.get_by_text("preferences").first.wait_for(timeout=PATIENCE * 1000)
    page.keyboard.press("Alt+e")
    page.get_by_text("rejection_sampling").first.wait_for(timeout=PATIENCE * 1000)
    page.reload()
    page.get_by_text("rejection_sampling").first.wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(4000)
    page.get_by_label("zoom_out").click()
    page.wait_for_timeout(2000)
    boxes = [box for node in page.locator("foreignObject").all() if (box := node.bounding_box())]
    left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
    right = max(box["x"] + box["width"] for box in boxes) + MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
    page.screenshot(path=target, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})


def version(page: Page, url: str, key: str, target: Path) -> None:
    """The metadata of a corpus version, its plot opened."""
    page.goto(f"{url}/assets/corpus?view=partitions&partition={key}")
    page.get_by_text("in and out").first.wait_for(timeout=PATIENCE * 1000)
    # The opened plot beside the table, not over it.
    page.add_style_tag(content=BESIDE)
    page.get_by_text("[Show Markdown]").first.click()
    page.get_by_role("img", name=key.split("-")[0]).wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(1000)
    page.screenshot(path=target)


def checks(page: Page, url: str, target: Path) -> None:
    """The checks of the corpus, as they went last."""
    page.goto(f"{url}/assets/corpus?view=checks")
    page.get_by_text("reproducible").first.wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(3000)
    page.screenshot(path=target)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of the Dagster UI after a demo.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    home = settings.home()
    first = manifest(home, config.load(home).corpus, 1)
    with served() as url:
        with browser(2200, 700, scale=1.5) as context:
            graph(context.pages[0], url, folder / "graph.png")
        with browser(1250, 1320) as context:
            version(context.pages[0], url, Version(1, first.as_of).key, folder / "version.png")
        with browser(1250, 620) as context:
            checks(context.pages[0], url, folder / "checks.png")


if __name__ == "__main__":
    main()
