"""The devices of a job: GPUs that no other job of this user on this machine computes on, or the CPU."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..errors import ConfigError

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@contextmanager
def claim(device: str) -> Iterator[torch.device]:
    """The device to compute on, held until the block ends; the only one of `claim_several`."""
    with claim_several(device, 1) as devices:
        if devices[0].type == "cuda":
            torch.cuda.set_device(devices[0])
        yield devices[0]


@contextmanager
def claim_several(device: str, count: int) -> Iterator[list[torch.device]]:
    """Up to `count` GPUs, as many as there are, or the CPU; all are held until the block ends.

    Local jobs that run at once get different GPUs of those that CUDA_VISIBLE_DEVICES shows; when too few
    are free, they wait and hold none. Under Slurm each job sees its own GPUs only and gets them at once.

    Args:
        device: the config's: `auto` (CUDA when there is one), `cuda` or `cpu`.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    visible = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and not visible:
        raise ConfigError("device is cuda, but torch sees no GPU here; set device: auto or cpu, or run on a GPU node")
    if not visible:
        yield [torch.device("cpu")]
        return
    names = [str(torch.cuda.get_device_properties(i).uuid) for i in range(visible)]
    with free(names, min(count, visible)) as indices:
        yield [torch.device("cuda", index) for index in indices]


@contextmanager
def free(names: Sequence[str], count: int = 1) -> Iterator[list[int]]:
    """Indices of the first `count` of `names` that no other process holds; waits for them, holds them until the end.

    All are taken at once or none, so that two jobs never wait for each other. The names identify physical
    devices (UUIDs) and are locked through files in the temporary folder.
    """
    folder = Path(tempfile.gettempdir()) / f"fungi-audio-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks = [FileLock(folder / f"gpu-{name}.lock") for name in names]
    turn = FileLock(folder / "claim.lock")
    with ExitStack() as held:
        taken = _take(locks, count, turn, held)
        if not taken:
            log.info("fewer than %d of %d GPUs are free of other jobs; waiting", count, len(locks))
        while not taken:
            time.sleep(POLL_SECONDS)
            taken = _take(locks, count, turn, held)
        yield taken


def _take(locks: Sequence[FileLock], count: int, turn: FileLock, held: ExitStack) -> list[int]:
    """The first `count` locks that are free, now in `held`; none when there are fewer."""
    with turn, ExitStack() as stack:
        taken = []
        for index, lock in enumerate(locks):
            with suppress(Timeout):
                stack.enter_context(lock.acquire(timeout=0))
                taken.append(index)
            if len(taken) == count:
                held.push(stack.pop_all())
                return taken
    return []
