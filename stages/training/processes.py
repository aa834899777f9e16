"""The processes that train one model together, which `torchrun` started; one if it did not.

Each works on its own shard of the rows. What they exchange is exact, so they and the network
between them are on the data owner's side of the promise.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from stages.errors import BrokenGuaranteeError

# How long to wait for the others: the slowest shard of the largest batch takes less.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """One process among `size`.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where its model lives.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls) -> "Processes":
        """Return this process' place among those that torchrun started, on a GPU if it has one."""
        has_gpu = torch.cuda.is_available()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
        if "WORLD_SIZE" not in os.environ:
            return cls(rank=0, size=1, device=device)
        dist.init_process_group("nccl" if has_gpu else "gloo", timeout=TIMEOUT)
        # Else its threads may outlive the interpreter, and end a run that is over with an abort.
        atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def shard(self, rows: int) -> slice:
        """Return the rows that are this process' own; the shards of all are the whole table."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum of what each process brings, the same to the last bit in all of them."""
        return self._exchange(tensor, dist.all_reduce)

    def share(self, tensor: Tensor) -> Tensor:
        """Return what the first process has."""
        return self._exchange(tensor, lambda common: dist.broadcast(common, src=0))

    def _exchange(self, tensor: Tensor, exchange: Callable[[Tensor], object]) -> Tensor:
        if self.size == 1:
            return tensor
        common = tensor.to(self.device)  # NCCL knows tensors on GPUs only
        with _others_may_fail():
            exchange(common)
        return common.to(tensor.device)

    def wait_for_all(self) -> None:
        """Return when every process has come here.

        Raises:
            BrokenGuaranteeError: one has failed.
        """
        if self.size > 1:
            with _others_may_fail():
                dist.barrier()


@contextmanager
def _others_may_fail() -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise BrokenGuaranteeError(
            "another of the processes failed. Nothing was written. To see why, set `processes: 1` "
            "and run again."
        ) from None


ALONE = Processes(rank=0, size=1, device=torch.device("cpu"))
