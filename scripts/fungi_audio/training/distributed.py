"""Several processes of one machine that train together, one a GPU."""

import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.distributed
import torch.multiprocessing


class World(NamedTuple):
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values


def launch(processes: int, backend: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(world, *arguments)`` in `processes` processes and return what rank 0 returns.

    Rank 0 is the calling process, so its output, progress and errors stay where they are. The function
    and its arguments must be picklable. The others import the function's module but not the calling
    script, so that one needs no guard around its work.

    Args:
        backend: of `torch.distributed`: `nccl` for GPUs, `gloo` for the CPU.
    """
    if processes == 1:
        return function(World(), *arguments)
    with tempfile.TemporaryDirectory() as folder:
        common = (processes, backend, f"file://{folder}/rendezvous", function, arguments)
        with patch.multiple(sys.modules["__main__"], __spec__=None, __file__=None, create=True):
            others = torch.multiprocessing.start_processes(
                _other, common, processes - 1, join=False, start_method="spawn"
            )
        assert others is not None
        try:
            result = _join(0, *common)
        except BaseException:
            for process in others.processes:
                process.terminate()
            raise
        while not others.join():
            pass
    return result


def _other(index: int, *common: Any) -> None:
    _join(index + 1, *common)


def _join(
    rank: int, processes: int, backend: str, rendezvous: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    torch.distributed.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=processes)
    try:
        return function(World(rank, processes), *arguments)
    finally:
        torch.distributed.destroy_process_group()
