"""How long things take: steps in turns under the same load, and commands, with their memory."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

QUICK = os.environ.get("QUICK") == "1"

ROUNDS = 5 if QUICK else 15
ROUND_SECONDS = 0.15

Seconds = list[float]


def in_turns(steps: Mapping[str, Callable[[], object]]) -> dict[str, Seconds]:
    """Return each one's seconds a step, one per round."""
    counts = {name: max(1, round(ROUND_SECONDS / seconds(step, 3))) for name, step in steps.items()}
    found: dict[str, Seconds] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            found[name].append(seconds(step, counts[name]))
    return found


def seconds(step: Callable[[], object], times: int = 1) -> float:
    """Return how long a step takes, on average over so many."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def ratio(found: Seconds, others: Seconds) -> str:
    """Return how many times as long something takes as another: the median over rounds."""
    return f"{statistics.median(a / b for a, b in zip(found, others, strict=True)):.2f}"


@dataclass(frozen=True)
class Run:
    """A command that ran: how long, and the most memory it held.

    Attributes:
        seconds: wall clock.
        resident: peak of its resident memory, mapped files included, in MB.
        private: peak of what is its own: memory that no file backs, in MB.
    """

    seconds: float
    resident: float
    private: float


def run(command: Sequence[str], folder: Path, expect: int = 0) -> Run:
    """Run a command in a folder.

    Raises:
        SystemExit: its exit status is another than expected.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with _watching(process.pid) as peak:
        output, _ = process.communicate()
    if process.returncode != expect:
        raise SystemExit(f"{' '.join(command)} failed:\n{output}")
    return Run(time.perf_counter() - start, *peak)


@contextmanager
def _watching(pid: int) -> Iterator[list[float]]:
    """Yield [resident, private] in MB, which rise to their peaks while the block runs."""
    peak = [0.0, 0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            try:
                memory = psutil.Process(pid).memory_info()
            except psutil.Error:
                return
            peak[:] = np.maximum(peak, [memory.rss / 1e6, (memory.rss - memory.shared) / 1e6])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
