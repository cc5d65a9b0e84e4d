"""The trunk over many clips or views, at the speed of the hardware and without autograd."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from ..audio.read import normalise
from ..errors import out_of_memory
from ..frontends.views import noise_and_roll
from ..models.split import Activations, Backbone
from ..progress import progress

LARGEST_BATCH = {"cpu": 3_000, "cuda": 300_000}  # tokens; more of them leave the CPU's cache
BYTES_PER_VALUE = 48  # peak bytes of the trunk for each (token, channel), measured on the base model
MEMORY_SHARE = 0.5

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Log-mels to encode.

    Attributes:
        fbank: float32 `[clips, frames, mel]`, not normalised; usually memory-mapped.
        mean, std: statistics of the normalisation.
        rows: rows of `fbank` to encode, in this order.
        keys: int64 `[len(rows) * views]` of the augmented views (`views.view_keys`); None for the clean clip.
    """

    fbank: np.ndarray
    mean: float
    std: float
    rows: np.ndarray
    keys: torch.Tensor | None = None

    @property
    def views(self) -> int:
        return 1 if self.keys is None else max(1, len(self.keys) // max(1, len(self.rows)))


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 on a GPU and fp32 on the CPU."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def batch_size(backbone: Backbone, frames: int, mel: int, device: torch.device) -> int:
    """Inputs a batch: as many as keep the device busy and fit into half of its free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    tokens = frames * mel // 100
    fits = int(free * MEMORY_SHARE / (BYTES_PER_VALUE * backbone.width))
    return max(1, min(fits, LARGEST_BATCH[device.type]) // tokens)


def encode(
    backbone: Backbone, source: Source, chunk: int, first: int = 0, bar: Any = None
) -> Iterator[tuple[int, Activations]]:
    """Activations, a chunk of clips at a time, from clip `first` of the source on.

    The batch halves when memory runs out; the results do not depend on it. The next batch is read and
    copied while the current one is computed, and nothing waits for a GPU before the chunk is used.

    Args:
        backbone: on its device, with its precision set.
        chunk: clips a chunk.

    Yields:
        Index of the chunk's first clip, and activations `[clips * views, positions, …]` on the backbone's device.
    """
    if first >= len(source.rows):
        return
    device = next(backbone.parameters()).device
    views = source.views
    length, end = chunk * views, len(source.rows) * views
    _, frames, mel = source.fbank.shape
    size = batch_size(backbone, frames, mel, device)
    position, parts = first * views, list[Activations]()

    def load(start: int) -> Future[torch.Tensor]:
        """Start to read the batch from input `start` on; it ends with its chunk at the latest."""
        return loader.submit(_load, source, start, min(start + size, start - start % length + length, end), device)

    with _thread(device) as loader:
        following = load(position)
        while position < end:
            try:
                batch = following.result()
                after = position + len(batch)
                if after < end:
                    following = load(after)
                parts.append(backbone.activations(batch))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size //= 2
                log.warning("out of memory; going on with batches of %d", size)
                following = load(position)
                continue
            position = after
            if bar is not None:
                bar.update(len(batch) / views)
            if position == end or position % length == 0:
                yield first, Activations(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
                first, parts = position // views, []


def _load(source: Source, first: int, stop: int, device: torch.device) -> torch.Tensor:
    """Inputs `first` to `stop`, read once a clip; views are made on the device."""
    clips = np.arange(first, stop) // source.views
    fbank = torch.from_numpy(source.fbank[source.rows[clips[0] : clips[-1] + 1]])
    if device.type == "cuda":
        fbank = fbank.pin_memory().to(device, non_blocking=True)
    if source.keys is not None:
        fbank = fbank[torch.from_numpy(clips - clips[0]).to(device)]
        fbank = noise_and_roll(fbank, source.keys[first:stop].to(device))
    return normalise(fbank, source.mean, source.std)


def _thread(device: torch.device) -> ThreadPoolExecutor:
    """A thread that reads ahead; CUDA's current device is a thread's own."""
    if device.type == "cuda":
        return ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,))
    return ThreadPoolExecutor(1)


def encode_all(backbone: Backbone, source: Source, description: str) -> Activations:
    """All activations of a source in memory."""
    with progress(description, len(source.rows)) as bar:
        chunks = [part for _, part in encode(backbone, source, len(source.rows), bar=bar)]
    return Activations(*(torch.cat(tensors) for tensors in zip(*chunks, strict=True)))
