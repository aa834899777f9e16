"""`processes` in params.yaml: the train stage under torchrun, as its user sees it."""

import sys

import pytest

from tests.conftest import told


@pytest.fixture
def prepared(project):
    project.stage("preprocess")
    return project


def launch(project, processes, expect=0):
    return project.run(
        sys.executable, "-m", "stages.launch", str(processes), "train", expect=expect
    )


def train_metrics(project):
    return told(project, "train")


def test_several_processes_are_one_run_with_one_epsilon(prepared):
    alone, together = launch(prepared, 1), None
    one = train_metrics(prepared)
    together = launch(prepared, 2)
    two = train_metrics(prepared)
    for name in ("epsilon", "noise_multiplier", "steps", "sample_rate", "monitors_passed"):
        assert two[name] == one[name]
    assert two["accuracy"] > 0.8
    # Each said what it did once, and the second run is one more in the ledger.
    for output in (alone, together):
        assert output.count("trained 150 steps") == 1
        assert "Traceback" not in output
    assert "(entries: 1)" in alone
    assert "(entries: 2)" in together


def test_a_mistake_is_told_once_and_without_a_traceback(prepared):
    prepared.set(batch_size=2000)
    message = launch(prepared, 2, expect=1)
    assert message.count("`batch_size` should be at most `train_size` (1070), but is 2000") == 1
    assert "Traceback" not in message
    assert not (prepared.folder / "models").exists()


def test_a_count_that_is_none_is_refused_by_the_stage(prepared):
    prepared.set(processes="many")
    message = launch(prepared, "many", expect=1)
    assert "`processes` should be a valid integer" in message
    assert "Traceback" not in message


def test_a_stage_that_processes_cannot_share_is_refused(project):
    message = project.run(sys.executable, "-m", "stages.launch", "1", "plan", expect=2)
    assert "invalid choice: 'plan'" in message
    assert "Traceback" not in message


def test_a_process_that_fails_by_itself_stops_all(prepared):
    # The second process finds a clip that does not hold; the first must not write what it has.
    train = prepared.folder / "stages/training/monitors.py"
    fault = "        bound = self.plan.max_grad_norm * (1 + CLIP_TOLERANCE)\n"
    source = train.read_text()
    assert fault in source
    only_second = "        bound *= float(__import__('os').environ['RANK'] != '1')\n"
    train.write_text(source.replace(fault, fault + only_second))
    message = launch(prepared, 2, expect=1)
    assert "error: another of the processes failed" in message
    assert "Traceback" not in message
    assert not (prepared.folder / "models").exists()
