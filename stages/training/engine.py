"""Opacus, without its parts for models that are sharded over machines.

Importing any of Opacus imports all of it, and with it PyTorch's distributed tensors and symbolic
shapes, a third of the time that a training takes to start. Opacus 1.6 needs four modules of these,
for optimizers that are not used here and for annotations; while it is imported, empty classes stand
in for what it takes from them.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

SHARDING = {
    "torch.distributed.tensor": ("DTensor",),
    "torch.distributed._tensor.experimental": ("implicit_replication",),
    "torch.distributed.fsdp": ("MixedPrecisionPolicy", "fully_shard"),
    "torch.distributed._composable.fsdp": ("FSDPModule",),
}


@contextmanager
def standing_in(names: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """Have modules that are not imported yet stood in for by empty classes of these names."""
    absent = [module for module in names if module not in sys.modules]
    for module in absent:
        sys.modules[module] = ModuleType(module)
        vars(sys.modules[module]).update({name: type(name, (), {}) for name in names[module]})
    try:
        yield
    finally:
        for module in absent:
            del sys.modules[module]


with standing_in(SHARDING):
    from opacus.accountants import PRVAccountant
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping

__all__ = ["DPOptimizer", "DPOptimizerFastGradientClipping", "PRVAccountant"]
