"""The pages for people: each README of the repository, and CONTRIBUTING.md."""

import subprocess
from pathlib import Path

from tests.conftest import ROOT

NAMES = ("README.md", "CONTRIBUTING.md")
MAIN = "README.md"


def pages():
    """Return the paths of all pages in the repository, the main one first."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md")
    found = subprocess.check_output(command, cwd=ROOT, text=True).split()
    return sorted((path for path in found if Path(path).name in NAMES), key=len)


def read(page):
    return (ROOT / page).read_text()


PAGES = pages()
OTHERS = [page for page in PAGES if page != MAIN]
