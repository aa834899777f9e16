"""The report in a real browser: on a telephone and a desk, by day and by night, for everybody.

Needs a Chromium on the path and, for the accessibility rules, axe-core in `node_modules`
(`npm install --no-save axe-core@4.14.1`); CI has both. `test_page.py` runs without.
"""

import shutil

import pytest

from tests.conftest import ROOT
from tests.reporting.browser import browser, find_browser

AXE = ROOT / "node_modules/axe-core/axe.min.js"
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on the path: apt-get install chromium"
)
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="no axe-core: npm install --no-save axe-core@4.14.1"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=str)
def shown(request, page, released):
    """The report, as shown at a width in a scheme."""
    width, scheme = request.param
    page.open((released / "plots/report.html").as_uri(), width=width, scheme=scheme)
    return page


def test_it_asks_for_nothing_and_complains_of_nothing(shown, released):
    assert shown.requests() == [(released / "plots/report.html").as_uri()]
    assert shown.complaints() == []


def test_it_fits_the_screen(shown):
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert shown.evaluate(
        "[...document.querySelectorAll('svg')].every(svg => svg.clientWidth >= 250)"
    )


def test_it_is_dark_where_the_reader_wants_it_dark(page, released):
    colours = set()
    for scheme in SCHEMES:
        page.open((released / "plots/report.html").as_uri(), width=1280, scheme=scheme)
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


@needs_axe
def test_it_breaks_no_rule_of_accessibility(shown):
    assert violations(shown) == []


@needs_axe
def test_a_page_that_breaks_one_is_seen(page, tmp_path, released):
    html = (released / "plots/report.html").read_text()
    planted = html.replace(' lang="en"', "").replace("--muted: #59636e", "--muted: #bbbbbb")
    (tmp_path / "page.html").write_text(planted)
    page.open((tmp_path / "page.html").as_uri(), width=1280, scheme="light")
    assert {"html-has-lang", "color-contrast"} <= set(violations(page))


def violations(page):
    page.evaluate(f"{AXE.read_text()}; 0")
    return page.evaluate("axe.run().then(found => found.violations.map(one => one.id))")


def test_a_request_and_a_complaint_are_seen(page, tmp_path, released):
    shutil.copy(released / "plots/roc.png", tmp_path / "roc.png")
    page_with_faults = '<img src="roc.png"><script>console.error("x"); missing()</script>'
    (tmp_path / "page.html").write_text(page_with_faults)
    page.open((tmp_path / "page.html").as_uri(), width=390, scheme="light")
    assert len(page.requests()) == 2
    assert len(page.complaints()) >= 2
