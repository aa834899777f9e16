"""What more than one file of these tests needs."""

import pytest

from tests.faults.replay import quick_accounting


@pytest.fixture(autouse=True, scope="session")
def _own_ledger():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)  # else it would name another project's ledger
        yield


@pytest.fixture(autouse=True, scope="module")
def _quick_accounting():
    yield from quick_accounting()
