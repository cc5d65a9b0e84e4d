"""The device of a job: a GPU that no other job of this user on this machine computes on, or the CPU."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .errors import ConfigError

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@contextmanager
def claim(device: str) -> Iterator[torch.device]:
    """The device to compute on, held until the block ends.

    Local jobs that run at once get different GPUs of those that CUDA_VISIBLE_DEVICES shows; when all
    are taken, they wait. Under Slurm each job sees its own GPUs only and gets one at once. Several
    processes of one training job may each claim theirs.

    Args:
        device: the config's: `auto` (CUDA when there is one), `cuda` or `cpu`.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    count = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and not count:
        raise ConfigError("device is cuda, but torch sees no GPU here; set device: auto or cpu, or run on a GPU node")
    if not count:
        yield torch.device("cpu")
        return
    with free([str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]) as index:
        torch.cuda.set_device(index)
        yield torch.device("cuda", index)


@contextmanager
def free(names: Sequence[str]) -> Iterator[int]:
    """Index of the first of `names` that no other process holds; waits for one, holds it until the block ends.

    The names identify physical devices (UUIDs) and are locked through files in the temporary folder.
    """
    folder = Path(tempfile.gettempdir()) / f"fungi-audio-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks = [FileLock(folder / f"gpu-{name}.lock") for name in names]
    with ExitStack() as stack:
        index = _first(locks, stack)
        if index is None:
            log.info("all %d GPUs are taken by other jobs; waiting", len(locks))
        while index is None:
            time.sleep(POLL_SECONDS)
            index = _first(locks, stack)
        yield index


def _first(locks: Sequence[FileLock], stack: ExitStack) -> int | None:
    for index, lock in enumerate(locks):
        try:
            stack.enter_context(lock.acquire(timeout=0))
        except Timeout:
            continue
        return index
    return None
