"""The augmented views of a clip: noise, then a roll in time (SSAST's training noise, used by FUNGI for SimCLR).

A view depends on (seed, stream, clip id, view number) and on nothing else: not on the batch, the shard,
the order, the number of workers or the device.
"""

import torch

from ..randomness import uniform
from ..seeds import named_seed

NOISE = 0.1  # largest noise level
ROLL = 10  # frames: rolls lie in [-10, 9]


def view_keys(seed: int, stream: str, clip_ids: list[str], views: range) -> torch.Tensor:
    """Keys of the views, int64 `[clips * views]`, the views of a clip next to each other."""
    return torch.tensor([named_seed(seed, stream, clip, view) for clip in clip_ids for view in views])


def noise_and_roll(values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """One view for each key: ``roll(x + U * r, shift)``, U uniform in [0, 1), r in [0, 0.1), shift in [-10, 9].

    Args:
        values: float32 `[n, frames, columns]`, a log-mel that is not normalised.
        keys: int64 `[n]` on the same device.

    Returns:
        float32 `[n, frames, columns]`, not normalised.
    """
    n, frames, columns = values.shape
    numbers = uniform(keys, 2 + frames * columns)
    level = numbers[:, 0] * NOISE
    shift = (numbers[:, 1] * (2 * ROLL)).long() - ROLL
    noisy = torch.addcmul(values, numbers[:, 2:].view(n, frames, columns), level.view(n, 1, 1))
    source = (torch.arange(frames, device=values.device).unsqueeze(0) - shift.unsqueeze(1)) % frames
    return noisy.gather(1, source.unsqueeze(2).expand(-1, -1, columns))
