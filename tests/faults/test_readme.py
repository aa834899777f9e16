"""The page of faults is the faults' own."""

from tests.faults.readme import README, page
from tests.faults.test_faults import FAULTS


def test_the_page_is_written_from_the_faults():
    assert README.read_text() == page(FAULTS), "write it: python -m tests.faults.readme"


def test_a_fault_that_is_told_otherwise_changes_the_page():
    told = {**FAULTS, "noise seeded": ("`seed(0)`", "nothing")}
    assert page(told) != page(FAULTS)
    assert "| noise seeded | `seed(0)` | nothing |" in page(told)
