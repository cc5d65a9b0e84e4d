"""Work in groups of one fixed number of clips, so that a clip's numbers do not depend on its company.

A matrix product sums in another order for another number of rows: libraries pick their kernels by the shape. On
some processors a clip on its own differs from the same clip among others by more than 1e-6. In groups of one
size every product has one shape, whatever the batch.
"""

from collections.abc import Iterator

import torch

POSITIONS = {"cpu": 256, "cuda": 8192}  # that go through the tail at once; fewer waste time, more wait for one clip


def tail_group(positions: int, device: torch.device) -> int:
    """Clips of one group for the tail, of `positions` a clip (its views counted)."""
    return max(1, POSITIONS[device.type] // positions)


def groups(size: int, *tensors: torch.Tensor) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Tensors `[n, …]` in groups `[size, …]`; the last clip is repeated to fill up the last group.

    Yields:
        How many of the group's clips count (the rest is to be dropped), and the tensors.
    """
    for parts in zip(*(tensor.split(size) for tensor in tensors), strict=True):
        count = len(parts[0])
        rows = torch.arange(size, device=parts[0].device).clamp_(max=count - 1)
        yield count, parts if count == size else tuple(part[rows] for part in parts)
