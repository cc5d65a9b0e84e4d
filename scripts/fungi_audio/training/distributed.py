"""Several processes of one machine that train together, one a GPU."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.distributed
import torch.multiprocessing


class World(NamedTuple):
    """This process among those that train together, and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values


def launch(devices: Sequence[torch.device], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(world, *arguments)`` in a process for each device and return what rank 0 returns.

    Rank 0 is the calling process, so its output, progress and errors stay where they are. The function
    and its arguments must be picklable. The others import the function's module but not the calling
    script, so that one needs no guard around its work.
    """
    if len(devices) == 1:
        return _compute(World(device=devices[0]), function, arguments)
    with tempfile.TemporaryDirectory() as folder:
        common = (devices, f"file://{folder}/rendezvous", function, arguments)
        with patch.multiple(sys.modules["__main__"], __spec__=None, __file__=None, create=True):
            others = torch.multiprocessing.start_processes(
                _other, (torch.get_num_threads(), *common), len(devices) - 1, join=False, start_method="spawn"
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


def _other(index: int, threads: int, devices: Sequence[torch.device], *common: Any) -> None:
    torch.set_num_threads(max(1, threads // len(devices)))
    _join(index + 1, devices, *common)


def _join(
    rank: int,
    devices: Sequence[torch.device],
    rendezvous: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    world = World(rank, len(devices), devices[rank])
    backend = "nccl" if world.device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=world.size)
    try:
        return _compute(world, function, arguments)
    finally:
        torch.distributed.destroy_process_group()


def _compute(world: World, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    return function(world, *arguments)
