"""What somebody sees who opens the UI after the demo: the wheel, a version with its plot, checks, and nothing red."""

import re
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from flywheel_tests.defs.conftest import Served, instance_of
from flywheel_tests.defs.test_definitions import WHEEL

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CHROMIUM = shutil.which("chromium")
ALONE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW = {"width": 2200, "height": 900}
ALARMS = re.compile(r"\b(error|failed to|failure|could not|unable to|warning|stale)\b", re.IGNORECASE)


class Visit:
    """One page of a fresh browser that is let out to 127.0.0.1 only, and what it complained of."""

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.route(lambda address: urlsplit(address).hostname != "127.0.0.1", lambda route: route.abort())

    def see(self, path: str, *texts: str) -> str:
        """Open a page, wait until it shows the texts, and return all that it shows."""
        self.page.goto(f"{self.url}{path}")
        for text in texts:
            self.page.get_by_text(text).first.wait_for()
        self.page.wait_for_timeout(2000)
        return self.page.inner_text("body")

    def is_calm(self) -> bool:
        """Whether no script failed, and nothing on the page tells of an error or a warning."""
        shown = self.page.inner_text("body")
        alarms = ALARMS.findall(shown)
        assert not alarms and not self.complaints, (alarms, self.complaints, shown)
        return True


@pytest.fixture(scope="module")
def visit(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    if not CHROMIUM:
        pytest.skip("there is no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=ALONE, viewport=WINDOW
        )
        yield Visit(context.pages[0], served.url)
        context.close()


def test_the_first_page_opens_without_a_warning(visit):
    visit.see("/", "Overview")
    assert visit.is_calm()
    visit.see("/locations", "flywheel", "Loaded")
    assert visit.is_calm()


def test_the_graph_shows_every_asset(visit):
    visit.see("/asset-groups", "preferences")
    visit.page.keyboard.press("Alt+e")
    for name in WHEEL:
        visit.page.get_by_text(name, exact=True).first.wait_for()
    assert visit.is_calm()


def test_a_version_shows_its_rows_its_reasons_and_its_plot(visit, served):
    with instance_of(served.home) as instance:
        version = min(instance.get_dynamic_partitions("versions"))
    shown = visit.see(f"/assets/corpus?view=partitions&partition={version}", "reasons")
    assert "Materialized" in shown and "held out" in shown and "digest" in shown
    visit.page.get_by_text("[Show Markdown]").first.click()
    plot = visit.page.get_by_role("img", name=version.split("-")[0])
    plot.wait_for()
    assert plot.evaluate("image => image.naturalWidth") > 300
    assert "failed (0)" in shown.lower()


def test_checks_are_green(visit):
    shown = visit.see("/assets/corpus?view=checks", "defence", "leakage", "reproducible", "schema", "Passed")
    assert shown.count("Succeeded") == 4
    assert visit.is_calm()


def test_schedules_and_the_sensor_are_on(visit):
    visit.see("/automation", "nightly", "close_day", "late_outcomes")
    switches = visit.page.get_by_role("checkbox").all() + visit.page.get_by_role("switch").all()
    assert sum(switch.is_checked() for switch in switches) >= 3
    assert visit.is_calm()
