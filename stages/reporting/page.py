"""The report as one page for people, made of its Markdown; the figures stand in the page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from markupsafe import Markup

from stages.reporting.templates import fill

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")

# By the name of a picture's file, the SVG elements that stand for it.
Graphics = Mapping[str, Sequence[str]]
Block = Mapping[str, Any]


def page(markdown: str, graphics: Graphics) -> str:
    """Return a report as HTML.

    A paragraph before a table that ends with a colon is the table's caption, and its first column
    heads the rows. A table before the first chapter is a label, to be read at a glance.

    Args:
        markdown: the report; its title is of the first rank, and those of chapters of the second.
        graphics: what stands for its pictures.
    """
    title, *nodes = SyntaxTreeNode(_PARSER.parse(markdown)).children
    starts = [place for place, node in enumerate(nodes) if node.tag == "h2"]
    chapters = [
        _chapter(nodes[start:end], graphics)
        for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]
    opening = list(_blocks(nodes[: starts[0]], graphics))
    return fill("report.html", title=_inline(title), opening=opening, chapters=chapters)


def _chapter(nodes: Sequence[SyntaxTreeNode], graphics: Graphics) -> Block:
    title = _inline(nodes[0])
    anchor = re.sub(r"\W+", "-", title.striptags().lower()).strip("-")
    return {"anchor": anchor, "title": title, "blocks": list(_blocks(nodes[1:], graphics))}


def _blocks(nodes: Sequence[SyntaxTreeNode], graphics: Graphics) -> Iterator[Block]:
    for node in nodes:
        if node.type == "table":
            yield _table(node)
        elif images := [part for part in node.walk() if part.type == "image"]:
            yield _pictures(images, graphics)
        elif not _is_caption(node):
            yield {"kind": "text", "html": _html(node)}


def _is_caption(node: SyntaxTreeNode) -> bool:
    after = node.next_sibling
    return after is not None and after.type == "table" and _inline(node).endswith(":")


def _table(node: SyntaxTreeNode) -> Block:
    before = node.previous_sibling
    caption = _inline(before)[:-1] if before is not None and _is_caption(before) else None
    head, *rows = [
        [_inline(cell) for cell in row.children] for part in node.children for row in part.children
    ]
    return {"kind": "table", "caption": caption, "head": head, "rows": rows}


def _pictures(images: Sequence[SyntaxTreeNode], graphics: Graphics) -> Block:
    files = [str(image.attrs["src"]).rpartition("/")[2] for image in images]
    shown = [Markup(graphic) for file in files for graphic in graphics[file]]
    return {"kind": "pictures", "caption": _inline(images[0]), "graphics": shown}


def _inline(node: SyntaxTreeNode) -> Markup:
    """Return the HTML of what stands in a title, paragraph, cell or picture's description."""
    return Markup("").join(_html(child) for child in node.children)


def _html(node: SyntaxTreeNode) -> Markup:
    return Markup(_PARSER.renderer.render(node.to_tokens(), _PARSER.options, {}))
