"""A network over many clips or views, at the speed of the hardware: batches by length, as large as memory allows."""

import ctypes
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import psutil
import torch

from ..errors import out_of_memory
from ..models.base import Backbone, Inputs
from .inputs import Pool

LARGEST_BATCH = {"cpu": 3_000, "cuda": 300_000}  # positions; more of them leave the CPU's cache
BYTES_PER_VALUE = 48  # peak bytes of the trunk for each (position, channel), measured on SSAST base
MEMORY_SHARE = 0.5
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 1 << 30

Computed = dict[str, torch.Tensor]
log = logging.getLogger(__name__)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 on a GPU and fp32 on the CPU."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def batch_positions(backbone: Backbone, device: torch.device) -> int:
    """Positions (tokens) of a batch: as many as keep the device busy and fit into half of its free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    fits = int(free * MEMORY_SHARE / (BYTES_PER_VALUE * backbone.width))
    return min(fits, LARGEST_BATCH[device.type])


def encode(
    backbone: Backbone,
    pool: Pool,
    compute: Callable[[Inputs, np.ndarray], Computed],
    chunk: int,
    first: int = 0,
    together: int = 1,
    bar: Any = None,
) -> Iterator[tuple[int, Computed]]:
    """What `compute` makes of the inputs, a chunk of clips at a time, from clip `first` of the pool on.

    Within a chunk short clips come first, so that a batch pads little; the results are in the order of the pool and
    do not depend on the batches. A batch halves when memory runs out. The next one is read and copied while the
    current one is computed, and nothing waits for a GPU before the chunk is used.

    Args:
        backbone: on its device, with its precision set.
        compute: of a batch and the numbers of its inputs; one row for every `together` inputs.
        chunk: clips a chunk.
        together: inputs that must not be parted: 1, or the views of a clip.

    Yields:
        Index of the chunk's first clip, and tensors on the backbone's device, a row for every `together` inputs.
    """
    if first >= len(pool.rows):
        return
    device = next(backbone.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    length, end = chunk * pool.views, len(pool.rows) * pool.views
    order = _order(pool, length, end)
    positions = batch_positions(backbone, device)
    position, parts = first * pool.views, list[Computed]()

    def load(start: int) -> tuple[np.ndarray, Future[Inputs]]:
        """Start to read the batch from place `start` of the order on; it ends with its chunk at the latest."""
        stop = min(start - start % length + length, end)
        inputs = order[start : start + _fitting(backbone, pool.lengths(order[start:stop]), positions, together)]
        return inputs, loader.submit(pool.load, inputs, device)

    with _thread(device) as loader:
        inputs, following = load(position)
        while position < end:
            try:
                batch, numbers = following.result(), inputs
                after = position + len(numbers)
                if after < end:
                    inputs, following = load(after)
                parts.append(compute(batch, numbers))
            except (RuntimeError, MemoryError) as error:
                if len(numbers) <= together or not out_of_memory(error):
                    raise
                longest = np.array([batch.values.shape[1]])
                positions = len(numbers) // 2 * int(backbone.positions(longest)[0])
                log.warning("out of memory; going on with batches of %d", len(numbers) // 2)
                inputs, following = load(position)
                continue
            position = after
            if bar is not None:
                bar.update(len(numbers) / pool.views)
            if position == end or position % length == 0:
                done = order[first * pool.views : position : together]
                yield first, _in_order(parts, done)
                first, parts = position // pool.views, []


@cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 1 GB that was freed, for as long as the process lives.

    By default it hands the memory of large activations back to the kernel after each operation, and the kernel clears
    the pages of the next one: 3 to 9 % of the trunk's time in fp32. Other C libraries than glibc lack the setting.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 4)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _order(pool: Pool, length: int, end: int) -> np.ndarray:
    """Numbers of all inputs as they are computed: chunk by chunk, in it by length; views of a clip stay together."""
    numbers = np.arange(end)
    return np.lexsort((numbers, pool.lengths(numbers), numbers // length))


def _fitting(backbone: Backbone, lengths: np.ndarray, positions: int, together: int) -> int:
    """How many of the next inputs, whose lengths rise, make a batch."""
    if backbone.equal_lengths:
        lengths = lengths[lengths == lengths[0]]
    units = np.arange(1, len(lengths) // together + 1)
    padded = units * together * backbone.positions(lengths[together - 1 :: together])
    return together * max(1, int(np.searchsorted(padded, positions, side="right")))


def _in_order(parts: list[Computed], numbers: np.ndarray) -> Computed:
    """The parts of a chunk as one, in the order of the pool."""
    made = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if (np.diff(numbers) > 0).all():
        return made
    place = torch.from_numpy(np.argsort(numbers))
    return {name: tensor[place.to(tensor.device)] for name, tensor in made.items()}


def _thread(device: torch.device) -> ThreadPoolExecutor:
    """A thread that reads ahead; CUDA's current device is a thread's own."""
    if device.type == "cuda":
        return ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,))
    return ThreadPoolExecutor(1)
