"""The trunk over many clips or views, at the speed of the hardware and without autograd."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from .audio import normalise
from .backbones.base import Activations, Backbone
from .progress import progress
from .views import augment

LARGEST_BATCH = {"cpu": 16, "cuda": 512}
BYTES_PER_VALUE = 48  # peak bytes of the trunk for each (token, channel), measured on the base model
MEMORY_SHARE = 0.5
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)

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
        return 1 if self.keys is None else len(self.keys) // max(len(self.rows), 1)


def resolve_device(device: str) -> torch.device:
    """`auto` is CUDA when there is one, else the CPU."""
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 on a GPU and fp32 on the CPU."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def batch_size(backbone: Backbone, frames: int, mel: int, device: torch.device) -> int:
    """Inputs a batch that fit into half of the free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    tokens = frames * mel // 100
    fits = int(free * MEMORY_SHARE / (BYTES_PER_VALUE * tokens * backbone.width))
    return max(1, min(fits, LARGEST_BATCH[device.type]))


def encode(
    backbone: Backbone, source: Source, chunk: int, first: int = 0, bar: Any = None
) -> Iterator[tuple[int, Activations]]:
    """Activations, a chunk of clips at a time, from clip `first` of the source on.

    The batch halves when memory runs out; the results do not depend on it. The next batch is read and
    copied while the current one is computed.

    Args:
        backbone: on its device, with its precision set.
        chunk: clips a chunk.

    Yields:
        Index of the chunk's first clip, and activations `[clips * views, positions, …]` on the CPU.
    """
    device = next(backbone.parameters()).device
    views = source.views
    _, frames, mel = source.fbank.shape
    size = batch_size(backbone, frames, mel, device)
    for start in range(first, len(source.rows), chunk):
        stop = min(start + chunk, len(source.rows))
        parts: list[Activations] = []
        position, end = start * views, stop * views
        while position < end:
            try:
                for part in _batches(backbone, source, position, end, size, device):
                    parts.append(part)
                    position += len(part.inputs)
                    if bar is not None:
                        bar.update(len(part.inputs) / views)
            except OUT_OF_MEMORY:
                if size == 1:
                    raise
                size //= 2
                log.warning("out of memory; going on with batches of %d", size)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
        yield start, Activations(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _batches(
    backbone: Backbone, source: Source, first: int, end: int, size: int, device: torch.device
) -> Iterator[Activations]:
    def load(position: int) -> torch.Tensor:
        stop = min(position + size, end)
        rows = source.rows[np.arange(position, stop) // source.views]
        fbank = torch.from_numpy(np.ascontiguousarray(source.fbank[rows]))
        if device.type == "cuda":
            fbank = fbank.pin_memory().to(device, non_blocking=True)
        if source.keys is not None:
            fbank = augment(fbank, source.keys[position:stop].to(device))
        return normalise(fbank, source.mean, source.std)

    with ThreadPoolExecutor(1) as loader:
        following = loader.submit(load, first)
        for position in range(first, end, size):
            batch = following.result()
            if position + size < end:
                following = loader.submit(load, position + size)
            yield Activations(*(tensor.float().cpu() for tensor in backbone.activations(batch)))


def encode_all(backbone: Backbone, source: Source, description: str) -> Activations:
    """All activations of a source in memory."""
    with progress(description, len(source.rows)) as bar:
        chunks = [part for _, part in encode(backbone, source, len(source.rows), bar=bar)]
    return Activations(*(torch.cat(tensors) for tensors in zip(*chunks, strict=True)))
