"""What is installed is pinned: each version exactly, and with all that it brings along."""

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

FILES = ("requirements.txt", "requirements-dev.txt")
INCLUDE = "-r requirements.txt"
BROUGHT = "# what these bring along"
PIN = re.compile(r"([\w.-]+)==[\w.]+")

# What PyTorch's builds for a GPU bring along differs by build, and the pins name none of them.
BUILDS = re.compile("nvidia-|cuda-|triton")


def lines(text):
    """Return the requirements in `text`, without comments."""
    bare = [line.split("  #")[0].strip() for line in text.splitlines()]
    return [line for line in bare if line and not line.startswith("#")]


def read(name):
    return (ROOT / name).read_text()


def loose(text):
    """Return the lines that neither pin a version exactly nor include the other file."""
    return [line for line in lines(text) if line != INCLUDE and not PIN.fullmatch(line)]


def pinned(text):
    return {line.split("==")[0] for line in lines(text) if line != INCLUDE}


def direct_pins(name):
    """Return the packages of a file that are there for their own sake."""
    return pinned(read(name).split(BROUGHT)[0])


def missing(names, wants=requires):
    """Return what the packages `names` require here, by `wants`, and what is not among them."""
    known = {canonicalize_name(name) for name in names}
    return {need for name in names for need in needs(name, wants) if need not in known}


def needs(name, wants):
    """Return the packages that `name` requires here, without its extras."""
    required = [Requirement(text) for text in wants(name) or []]
    return {
        canonicalize_name(need.name)
        for need in required
        if (need.marker is None or need.marker.evaluate({"extra": ""}))
        and not BUILDS.match(need.name)
    }


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_exactly(name):
    assert loose(read(name)) == []


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.*", "-r other.txt"])
def test_a_loose_requirement_is_seen(line):
    assert loose(f"scipy==1.0  # why\n{line}\n") == [line]


def test_what_tests_need_comes_on_top_of_what_runs():
    runs, tests = (pinned(read(name)) for name in FILES)
    assert INCLUDE in lines(read("requirements-dev.txt"))
    assert not runs & tests
    assert "pytest" in tests


def test_what_pinned_packages_require_is_pinned():
    runs, tests = (pinned(read(name)) for name in FILES)
    assert missing(runs) == set()
    assert missing(runs | tests) == set()


def test_a_requirement_without_a_pin_is_seen():
    tree = {"app": ["Lib_A>=1", "other; extra == 'more'", "old; python_version < '3'"], "lib-a": []}
    assert missing({"app"}, tree.get) == {"lib-a"}
    assert missing({"app", "lib.a"}, {**tree, "lib.a": []}.get) == set()


def test_every_package_that_is_required_for_its_own_sake_says_why():
    for name in FILES:
        direct = [line for line in read(name).split(BROUGHT)[0].splitlines() if "==" in line]
        assert all("  # " in line for line in direct), name
