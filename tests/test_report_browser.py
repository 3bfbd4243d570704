"""The pages of `tuner report` in a real browser: nothing is asked for, everything is reached and can be read."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from report_samples import HOSTILE, LAYERS, content_of, entry_of, safe_report, unsafe_report, warm_record

from rules.judge import judge
from rules.report import parse_report
from tuner.report.overview import overview
from tuner.report.page import log_page, overview_page, verdict_page
from tuner.report.starts import Bar, Waterfall

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs `apt-get install chromium`, as .ci/run does")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
WIDTHS = (320, 800, 1600)
SERIOUS = {"serious", "critical"}


def whole_page() -> str:
    """A verdict with every section, and a warm-up."""
    data = unsafe_report()
    data["proofs"][0]["ranks"][0]["guards"] = [{"expression": "s0 > 1", "file": "vllm/a.py", "line": 3}]
    return verdict_page(content_of(entry_of(data), warm_record()), "/")


def hostile_page() -> str:
    """A verdict in which all that others name is hostile, and longer than a line."""
    data = unsafe_report()
    data["assumptions"][0]["detail"] = HOSTILE
    data["proofs"][1]["arguments"] = [HOSTILE, "x" * 400]
    data["proofs"][0]["ranks"][0]["failures"][0]["fields"] = {"guard": HOSTILE, "file": HOSTILE, "line": 1}
    return verdict_page(content_of(entry_of(data, name=HOSTILE + "y" * 400, architecture=HOSTILE)))


def table_page(releases: int = 6) -> str:
    """The table of architectures by releases; one name is hostile."""
    versions = [f"0.{minor}.0" for minor in range(16, 16 + releases - 1)]
    entries = [entry_of(safe_report(), vllm=version) for version in versions]
    entries.append(entry_of(unsafe_report(), name=HOSTILE, architecture=HOSTILE + "z" * 200, vllm="0.9.0"))
    pairs = [(entry, judge(parse_report(entry.report))) for entry in entries]
    return overview_page(overview(pairs, NOW), NOW, "/v1/verdicts/KEY.html", "/?after=x")


def started_page() -> str:
    """The starts of a log."""
    bars = (Bar("load weights", 0.0, 3.0, HOSTILE), Bar("read files", 1.0, 2.0, inner=True))
    return log_page(HOSTILE, [Waterfall(HOSTILE, bars, 3.0, (HOSTILE,))], [HOSTILE])


PAGES: dict[str, Callable[[], str]] = {
    "whole": whole_page,
    "hostile": hostile_page,
    "table": table_page,
    "long table": lambda: table_page(12),
    "starts": started_page,
}


@dataclass
class Shown:
    """A page in the browser.

    Attributes:
        name: which page.
        page: the browser's own.
        requests: what was asked for beside the page itself.
        complaints: what the console says, and errors.
    """

    name: str
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=PAGES)
def shown(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Shown]:
    """Each page, opened from a file."""
    file = tmp_path / "page.html"
    file.write_text(PAGES[request.param](), encoding="utf-8")
    page = browser.new_page()
    opened = Shown(request.param, page)
    page.on("request", lambda asked: opened.requests.append(asked.url))
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.goto(file.as_uri())
    opened.requests.remove(file.as_uri())
    yield opened
    page.close()


def test_a_page_works_for_everybody(shown: Shown) -> None:
    """No request and no complaint; no width scrolls sideways; the keyboard opens every part; axe finds nothing serious.

    Names of others are shown as text, and make no element. One test, because opening a page takes most of the time.
    """
    page = shown.page
    for _ in range(page.locator("summary, a").count()):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            page.keyboard.press("Enter")
    assert page.locator("details:not([open])").count() == 0
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("img, script").count() == 0
    assert "alert" not in page.evaluate("[...document.querySelectorAll('*')].map(e => e.getAttributeNames()).join()")
    for scheme in ("light", "dark") if shown.name != "hostile" else ():  # it has the elements of the whole page
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS] == []
    assert [address for address in shown.requests if address != "data:,"] == []
    assert shown.complaints == []


def test_hostile_names_are_read_as_they_are(browser: Browser) -> None:
    """The reader sees the markup of a name, with what would steer a terminal or turn the line round spelt out."""
    page = browser.new_page()
    page.set_content(hostile_page())
    heading = page.locator("h1").inner_text()
    assert heading.startswith("<img src=x onerror=alert(1)>\\u202e{{7*7777}}`x`\\x1b[31m")
    page.close()


def test_the_first_wrong_call_is_drawn_once(browser: Browser) -> None:
    """Every call of the wrong pass is drawn, the wrong ones as such, and one of them as the first."""
    page = browser.new_page()
    page.set_content(whole_page())
    wrong = page.locator(".calls").first
    assert wrong.locator("g").count() == len(LAYERS)
    assert wrong.locator("g.wrong").count() == 2
    assert wrong.locator("g.first").count() == 1
    assert page.locator(".calls").nth(1).locator("g.wrong").count() == 0
    page.close()


def test_a_page_prints(browser: Browser) -> None:
    """It takes a few sheets of paper, and no dark background."""
    page = browser.new_page(color_scheme="dark")
    page.set_content(whole_page())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper = page.pdf(format="A4")
    assert 1 <= paper.count(b"/Type /Page\n") <= 6
    page.close()
