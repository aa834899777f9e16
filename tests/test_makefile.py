"""Each target installs what it needs and no more, and `make` alone says what there is."""

import re

import pytest

from tests.conftest import ROOT


def installed(project, target):
    """Return the requirements files that a target would install in a fresh clone, in order."""
    return re.findall(r"pip install .*-r (\S+)", project.run("make", "--dry-run", target))


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("repro", ["requirements.txt"]),
        ("audit", ["requirements.txt"]),
        ("test", ["requirements.txt", "requirements-dev.txt"]),
    ],
)
def test_a_target_installs_what_it_needs(project, target, files):
    assert installed(project, target) == files


def test_make_alone_lists_every_target(project):
    (phony,) = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    # `make test` runs this test, and a make inside a make says which folder it enters.
    listed = project.run("make", "--no-print-directory").splitlines()
    assert [line.split()[0] for line in listed] == phony.split()
    assert all(len(line.split()) > 1 for line in listed)
