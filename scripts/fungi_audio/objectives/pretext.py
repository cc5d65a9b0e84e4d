"""The gradient of a backbone's own pretext loss: a family's `pretext` network computes it."""

from collections.abc import Sequence

import torch

from ..engine.batch import Batch
from ..engine.gradient import Factors, gradient
from ..engine.projection import Signs
from ..errors import ConfigError
from ..models.base import Backbone, Inputs
from ..seeds import named_seed
from .base import Objective


class Masked(Objective):
    """The gradient of a masked-patch loss, the mean over several masks of a clip.

    Args:
        objective: `mpc` or `mpg` (`models.ssast.pretext`).
        masks: a clip.
        masked: share of the patches that is masked.
    """

    pretext = True

    def __init__(self, objective: str, masks: int, masked: float) -> None:
        self.objective, self.masks, self.masked = objective, masks, masked

    def width(self, backbone: Backbone, signs: Signs | None) -> int:
        assert signs is not None
        return len(signs.bits)

    def keys(self, seed: int, clip_ids: Sequence[str]) -> torch.Tensor:
        """Keys of the masks, int64 `[clips, masks]`: by seed, objective, clip id and number of the mask."""
        numbers = range(self.masks)
        return torch.tensor([[named_seed(seed, "mask", self.objective, clip, n) for n in numbers] for clip in clip_ids])

    def compute(self, backbone: Backbone, batch: Batch, keys: torch.Tensor | None = None) -> Factors:
        assert isinstance(batch, Inputs) and keys is not None
        losses = getattr(backbone, "masked_losses", None)
        if losses is None:
            raise ConfigError(f"objective {self.objective}: {type(backbone).__name__} has no such pretext loss")
        return gradient(backbone, lambda: losses(batch, self.objective, keys, self.masked))
