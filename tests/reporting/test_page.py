"""The report as everybody gets it: it stands alone, it can be read, its numbers are the metrics'.

A check that runs on any machine; `test_browser.py` looks at the page in a real browser.
"""

import re
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from stages.evaluation.result import EvaluateResult
from stages.model.classifier import Classifier, load
from stages.reporting.drawings import PICTURES
from stages.reporting.page import page
from stages.reporting.run import Run
from stages.reporting.statement import load_statement, make_statement, to_yaml
from stages.reporting.templates import fill
from stages.reporting.verify import parameters_of
from stages.training.result import TrainResult

# WCAG 2.2: 4.5 for text (1.4.3), 3 for lines and marks of a picture (1.4.11).
TEXT_CONTRAST, MARK_CONTRAST = 4.5, 3.0

# Elements that have no end.
VOID = {"meta", "link", "br", "img", "hr", "input", "source"}


class Elements(HTMLParser):
    """Every element with its attributes, its place and its text."""

    def __init__(self, html):
        super().__init__()
        self.all, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        parents = [element.tag for element in self.open]
        found = SimpleNamespace(tag=tag, parents=parents, text="", **{"with": dict(attributes)})
        self.all.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def named(self, *tags):
        return [element for element in self.all if element.tag in tags]


def attributes(element):
    return getattr(element, "with")


def faults(html):
    """Return what keeps a page from standing alone or from being read, in words."""
    page = Elements(html)
    found = [f"<{element.tag}> is left open" for element in page.open]
    found += [f"a <{element.tag}>" for element in page.named("script", "link", "iframe", "object")]
    found += [f"reaches out to {url}" for url in outward(html, page)]
    if not attributes(page.named("html")[0]).get("lang"):
        found.append("no language")
    if "default-src 'none'" not in html:
        found.append("nothing forbids requests")
    found += [
        f"{len(page.named(tag))} times <{tag}>"
        for tag in ("title", "h1", "header", "main", "footer", "nav")
        if len(page.named(tag)) != 1
    ]
    levels = [int(element.tag[1]) for element in page.named("h1", "h2", "h3", "h4")]
    found += [f"h{b} after h{a}" for a, b in pairwise(levels) if b > a + 1]
    found += [f"nothing is said of <{e.tag}>" for e in page.named("svg", "img") if not said_of(e)]
    found += unheaded(page)
    ids = [attributes(element)["id"] for element in page.all if "id" in attributes(element)]
    found += [f"id {name} twice" for name in set(ids) if ids.count(name) > 1]
    links = [attributes(element)["href"] for element in page.named("a")]
    found += [f"link to {link}" for link in links if link.removeprefix("#") not in ids]
    return found + pale(html)


def outward(html, page):
    names = ("src", "href", "xlink:href", "action", "data")
    urls = [attributes(element).get(name) or "" for element in page.all for name in names]
    urls += re.findall(r"url\(([^)]*)\)", html) + re.findall(r"@import[^;]*", html)
    return [url for url in urls if url and not url.startswith("#")]


def said_of(element):
    return attributes(element).get("aria-label") or attributes(element).get("alt")


def unheaded(page):
    scopes = [attributes(element).get("scope") for element in page.named("th")]
    found = ["a <th> without scope"] * scopes.count(None)
    if len(page.named("caption")) != len(page.named("table")):
        found.append("a table without caption")
    return found


def pale(html):
    """Return pairs of colours of the style that are too near to each other, light and dark."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    )
    needed = {"ink": TEXT_CONTRAST, "muted": TEXT_CONTRAST, "blue": TEXT_CONTRAST}
    needed["orange"] = MARK_CONTRAST
    return [
        f"{scheme}: {name} on {ground}"
        for scheme, colours in (("light", light), ("dark", dark))
        for ground in ("paper", "card")
        for name, least in needed.items()
        if contrast(colours[name], colours[ground]) < least
    ]


def contrast(one, other):
    """Return the contrast ratio of two colours by WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(scope="module")
def html(released):
    return (released / "plots/report.html").read_text()


def test_the_page_stands_alone_and_can_be_read(html):
    assert faults(html) == []


def test_no_picture_is_wider_than_the_page_of_dvc_plots_diff(released):
    # A screen of 1,280 points, less the borders that DVC draws.
    sizes = {name: Image.open(released / "plots" / name).size for name in PICTURES}
    assert {name: width for name, (width, _) in sizes.items() if width > 1250} == {}
    assert sizes["training.png"][0] > 1200  # as large as that allows


def test_the_contrast_is_the_standards():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("</main>", "<script>0</script></main>", "a <script>"),
        ("</main>", '<img alt="x" src="https://example.org/x.png"></main>', "reaches out to"),
        ("</style>", "p { background: url(//example.org) }</style>", "reaches out to"),
        ("</main>", '<img src="#x"></main>', "nothing is said of <img>"),
        (' lang="en"', "", "no language"),
        ("<main>", "<div>", "times <main>"),
        ("</main>", "<h4>x</h4></main>", "h4 after h2"),
        ('<th scope="row">', "<th>", "a <th> without scope"),
        ("</main>", '<p id="limits">x</p></main>', "id limits twice"),
        ("</main>", '<p><a href="#nowhere">x</a></p></main>', "link to #nowhere"),
        ("--muted: #59636e", "--muted: #9a9a9a", "light: muted on paper"),
        ("--blue: #56b4e9", "--blue: #0072b2", "dark: blue on paper"),
    ],
)
def test_a_page_with_a_fault_is_seen(html, old, new, told):
    assert old in html
    end = {"<main>": "</main>", "<div>": "</div>"}
    planted = html.replace(old, new).replace(end.get(old, old), end.get(new, new))
    assert any(told in fault for fault in faults(planted))


# --- the numbers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(released):
    read = {
        "train": TrainResult.read(released).model_dump(mode="json"),
        "evaluate": EvaluateResult.read(released).model_dump(mode="json"),
    }
    statement = yaml.safe_load((released / "plots/statement.yaml").read_text())
    return SimpleNamespace(**read, statement=statement, evidence=statement["evidence"])


def test_the_statement_has_the_numbers_of_the_metrics(told):
    parameters = told.statement["deployment"]["privacy_loss"]["privacy_parameters"]
    assert parameters == {"epsilon": told.evaluate["epsilon_overall"], "delta": told.train["delta"]}
    assert told.evidence["epsilon"] == told.evaluate["epsilon_overall"]
    training = told.evidence["training"]
    for key in training.keys() & told.train.keys():
        assert training[key] == told.train[key], key
    utility = dict(told.evidence["utility"])
    assert utility.pop("subgroups") == []
    for key, value in utility.items():
        assert value == told.evaluate[key], key
    assert told.evidence["attack"]["model_and_curves"] == told.train["attack"]
    assert told.evidence["ledger"]["epsilon_total"] == told.evaluate["epsilon_total"]


def cells(html):
    """Return the rows of all tables on the page, as text."""
    rows: list[list[str]] = []
    for element in Elements(html).named("tr", "th", "td"):
        if element.tag == "tr":
            rows.append([])
        else:
            rows[-1].append(" ".join(element.text.split()))
    return rows


def test_page_and_markdown_tell_the_numbers_of_the_statement(released, html, told):
    rows = cells(html)
    markdown = (released / "plots/report.md").read_text()
    in_markdown = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]
    training, utility = told.evidence["training"], told.evidence["utility"]
    expected = [
        ["ε of everything below", f"{told.evidence['epsilon']:.4f}"],
        ["ε of the model and its curves", f"{training['epsilon']:.4f}"],
        ["noise multiplier σ: noise over C", f"{training['noise_multiplier']:.4f}"],
        ["steps", str(training["steps"])],
        [
            "accuracy",
            f"{utility['figures']['accuracy']:.4f}",
            f"{utility['plus_minus']['accuracy']['new_patients']:.4f}",
            f"{utility['plus_minus']['accuracy']['noise']:.4f}",
        ],
        [
            "roc auc",
            f"{utility['figures']['roc_auc']:.4f}",
            f"{utility['plus_minus']['roc_auc']['new_patients']:.4f}",
            f"{utility['plus_minus']['roc_auc']['noise']:.4f}",
        ],
        [
            "all runs on record when this one was measured",
            f"{told.evidence['ledger']['epsilon_total']:.4f}",
        ],
    ]
    for row in expected:
        assert row in rows
        assert row in in_markdown


def test_page_and_markdown_say_the_same(released, html):
    markdown = (released / "plots/report.md").read_text()
    for element in Elements(html).named("h2", "p", "li", "td"):
        text = " ".join(element.text.split())
        if not {"footer", "nav"} & set(element.parents) and "To the report" not in text:
            assert text in " ".join(markdown.split()), text


def test_what_an_attacker_finds_is_never_told_too_small(html, told):
    rows = {row[0]: row[1:] for row in cells(html)}
    attack = told.evidence["attack"]
    for side, sides in enumerate(("model_and_curves", "test_figures")):
        for rate, key in (("0.1%", "0.001"), ("1.0%", "0.01"), ("10.0%", "0.1")):
            shown = float(rows[rate][side].rstrip("%")) / 100
            assert 0 <= shown - attack[sides][f"true_positives_at_{key}"] < 0.001


def test_the_first_sentence_is_for_patients(html, told):
    first, second = (" ".join(element.text.split()) for element in Elements(html).named("p")[:2])
    assert first.startswith("Whether or not you are in this table changes what anyone can learn")
    assert "at most a factor of 33:" in first  # e^3.496 = 32.99, rounded up
    assert "1 in 100,000" in first
    assert "at most 66 times in 100" in second  # (1 + 0.318) / 2, rounded up


# --- what a schema says --------------------------------------------------------------------------

NASTY = [
    "*a* _b_ **c** __d__ ~~e~~ a_b__c",
    "a | b",
    "<script>alert(1)</script> & <b>",
    "[a](https://example.org) ![b](https://example.org/b.png) <x@example.org>",
    "`code` \\ back",
    "$5 to $10",
    "name: {{ value }} - 'x' \"y\" # z",
]


def report_that_says(released, text):
    """Return statement and page of the run, with a text as name and description of a column."""
    statement = load_statement(released / "plots/statement.yaml")
    model = load(released / "models/classifier")
    first, *others = model.schema.fields
    planted = first.model_copy(update={"name": text, "description": text})
    schema = model.schema.model_copy(update={"fields": (planted, *others)})
    run = Run.read(released, Classifier(model.model, schema), parameters_of(statement))
    statement = make_statement(run)
    markdown = fill("report.md", run=run, statement=statement, plots="")
    return statement, page(markdown, dict.fromkeys(PICTURES, ()))


@pytest.mark.parametrize("text", NASTY)
def test_a_text_of_the_schema_is_told_as_it_is_whatever_it_would_mean(released, text):
    statement, html = report_that_says(released, text)
    assert f"the columns {text}, " in statement["deployment"]["dp_variant"]["data_domain"]
    assert [text, text] in [row[:2] for row in cells(html)]
    assert not {"script", "em", "code", "img"} & {element.tag for element in Elements(html).all}


@pytest.mark.parametrize("text", NASTY[:1])
def test_a_text_that_means_something_else_is_seen(text):
    assert [text, text] not in cells(page(f"# t\n\n## c\n\n| | |\n|-|-|\n|{text}|{text}|", {}))


# --- a simulation --------------------------------------------------------------------------------


def test_a_simulation_says_so_at_the_top_and_across_every_figure(simulated):
    html = (simulated / "plots/report.html").read_text()
    page = Elements(html)
    assert page.named("p")[0].text == "Not private, not for publication: simulation_seed is set."
    assert len(page.named("svg")) == 13  # 6 of released figures, one per column and one of a pair
    for picture in page.named("svg"):
        assert "NOT PRIVATE" in picture.text
    assert "makes no promise" in page.named("p")[1].text
    assert faults(html) == []


def test_a_private_run_carries_no_such_banner(html):
    assert "NOT PRIVATE" not in html
    assert "Not private" not in html


def test_a_whole_that_is_less_than_its_part_is_explained(released, told):
    # As of a continued run with full batches.
    run = Run.read(released, load(released / "models/classifier"), parameters_of(told.statement))
    statement = make_statement(run)
    assert "leave a margin" not in fill("report.md", run=run, statement=statement, plots="")
    statement["evidence"]["epsilon"] = 0.999 * statement["evidence"]["training"]["epsilon"]
    assert "leave a margin" in fill("report.md", run=run, statement=statement, plots="")


def test_a_public_table_is_told_to_be_protected_by_nothing(released, html, told):
    said = "every ε here shows how the pipeline counts and protects nobody"
    assert said in " ".join(html.split())
    assert said in (released / "plots/report.md").read_text()
    assert told.evidence["public_table"] is True
    assert "ε demonstrates and protects nobody" in told.evidence["not_covered"][0]
    # A table of patients is told of without it.
    model = load(released / "models/classifier")
    private = Classifier(model.model, model.schema.model_copy(update={"public": False}))
    run = Run.read(released, private, parameters_of(told.statement))
    statement = make_statement(run)
    assert statement["evidence"]["public_table"] is False
    assert "protects nobody" not in to_yaml(statement)
    assert "protects nobody" not in fill("report.md", run=run, statement=statement, plots="")
