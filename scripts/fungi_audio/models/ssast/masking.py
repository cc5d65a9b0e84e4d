"""Which patches are masked: clusters for patch models, single patches for frame models (SSAST, section 2.3).

A draw belongs to a key (see `randomness.uniform`), so the masks of a clip do not depend on the batch it
is in, on workers or on the device.
"""

import math

import torch

from ...randomness import uniform
from .definition import Grid

SMALLEST, LARGEST = 3, 5  # side of a cluster, in patches


def masks(grid: Grid, count: int, keys: torch.Tensor) -> torch.Tensor:
    """The masked patches of each key: clustered when the grid has several rows, uniform when it has one.

    Args:
        grid: patches along mel and time.
        count: how many patches to mask, at most `definitions.maskable`.
        keys: int64 `[n]`, one for each draw.

    Returns:
        int64 `[n, count]`, distinct row-major positions on the grid.
    """
    if grid.mel == 1:
        return uniform(keys, grid.time).argsort(dim=1, stable=True)[:, :count]
    return _clusters(grid, count, keys)


def _clusters(grid: Grid, count: int, keys: torch.Tensor) -> torch.Tensor:
    """Published rule: one side C of 3 to 5 a draw; blocks of C x C from random starts, until enough are marked.

    Blocks extend to the right and below on the row-major grid; they wrap at the end of a row, stop at the
    end of the grid and leave position 0 out. The first `count` marked positions are kept (the published
    code keeps the lowest ones, which favours low frequencies).
    """
    positions, side = math.prod(grid), torch.arange(LARGEST, device=keys.device)
    offsets = side.unsqueeze(1) * grid.time + side
    draws = positions
    while True:
        numbers = uniform(keys, 1 + draws)
        size = SMALLEST + (numbers[:, 0] * (LARGEST - SMALLEST + 1)).long()
        starts = (numbers[:, 1:] * positions).long()
        inside = (side < size.view(-1, 1, 1)) & (side.unsqueeze(1) < size.view(-1, 1, 1))
        marked = starts.view(-1, draws, 1, 1) + offsets
        marked = torch.where(inside.unsqueeze(1) & (marked < positions), marked, 0).flatten(1)
        order = torch.arange(marked.shape[1], device=keys.device).expand_as(marked)
        never = torch.full((len(keys), positions), marked.shape[1], device=keys.device)
        first = never.scatter_reduce(1, marked, order, "amin")
        first[:, 0] = marked.shape[1]
        when, where = first.sort(dim=1)
        if bool((when[:, count - 1] < marked.shape[1]).all()):
            return where[:, :count]
        draws *= 2
