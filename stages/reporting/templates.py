"""Fill the templates, which hold the report's words: Python hands them numbers only."""

import math
import re
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from stages.reporting import words

TEMPLATES = Path(__file__).parent / "templates"

# What Markdown, or GitHub's kind of it, would take for its own inside a line.
_MARKDOWN = re.compile(r"[\\`*\[\]<&|~$]|(?<![^\W_])_|_(?![^\W_])")


def fill(name: str, **values: Any) -> str:
    """Return the template `name` with `values` in it, none of which can change its structure."""
    return _ENVIRONMENTS[Path(name).suffix].get_template(name).render(values)


def _in_markdown(value: Any) -> Markup:
    """Return a value as text that Markdown shows as it is; what macros made is Markdown."""
    if isinstance(value, Markup):
        return value
    return Markup(_MARKDOWN.sub(r"\\\g<0>", " ".join(str(value).split())))


def _in_yaml(value: Any) -> Markup:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf
    )
    return Markup(text.removesuffix("...\n").strip())


_HTML = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_HTML.filters |= words.FILTERS

# By the kind of template, what makes a value harmless there.
_ENVIRONMENTS = {
    ".html": _HTML,
    ".md": _HTML.overlay(finalize=_in_markdown),
    ".yaml": _HTML.overlay(finalize=_in_yaml),
}
