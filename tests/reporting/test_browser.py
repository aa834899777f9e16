"""The report in a real browser: on a telephone and a desk, by day and by night, for everybody.

Needs a Chromium, on the path (`apt-get install chromium`) or Playwright's own (`playwright install
chromium`); CI on GitHub has one. `test_page.py` runs without.
"""

import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Page:
    """A tab that remembers what it asked the network for and what it complained of."""

    def __init__(self, browser, path, width, scheme):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, is_mobile=width < 600
        )
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.goto(path.as_uri())

    def violations(self):
        """The rules of accessibility that it breaks, by axe-core's names."""
        return [violation["id"] for violation in Axe().run(self.tab).response["violations"]]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        on_path = next((path for name in NAMES if (path := shutil.which(name))), None)
        own = playwright.chromium.executable_path
        if on_path is None and not Path(own).exists():
            pytest.skip("no Chromium: playwright install chromium, or apt-get install chromium")
        # Debian's runs as root in a container without its sandbox only.
        opened = playwright.chromium.launch(executable_path=on_path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def open_page(browser):
    return lambda path, width=1280, scheme="light": Page(browser, path, width, scheme)


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=str)
def shown(request, open_page, released):
    """The report, as shown at a width in a scheme."""
    return open_page(released / "plots/report.html", *request.param)


def test_it_asks_for_nothing_and_complains_of_nothing(shown, released):
    assert shown.requests == [(released / "plots/report.html").as_uri()]
    assert shown.complaints == []


def test_it_fits_the_screen(shown):
    assert shown.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert shown.tab.evaluate(
        "[...document.querySelectorAll('svg')].every(svg => svg.clientWidth >= 250)"
    )


def test_it_breaks_no_rule_of_accessibility(shown):
    assert shown.violations() == []


def test_it_is_dark_where_the_reader_wants_it_dark(open_page, released):
    colours = {
        open_page(released / "plots/report.html", scheme=scheme).tab.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in SCHEMES
    }
    assert len(colours) == 2


def test_a_page_that_breaks_a_rule_is_seen(open_page, tmp_path, released):
    html = (released / "plots/report.html").read_text()
    planted = html.replace(' lang="en"', "").replace("--muted: #59636e", "--muted: #bbbbbb")
    (tmp_path / "page.html").write_text(planted)
    assert {"html-has-lang", "color-contrast"} <= {*open_page(tmp_path / "page.html").violations()}


def test_a_request_and_a_complaint_are_seen(open_page, tmp_path, released):
    shutil.copy(released / "plots/roc.png", tmp_path / "roc.png")
    faults = '<img src="roc.png"><script>console.error("x"); missing()</script>'
    (tmp_path / "page.html").write_text(faults)
    page = open_page(tmp_path / "page.html")
    assert len(page.requests) == 2
    assert len(page.complaints) >= 2
