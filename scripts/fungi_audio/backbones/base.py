"""What the engine asks of a backbone.

A backbone is split at its *target layer*, the linear map whose per-clip gradient becomes the feature.
`activations` is the frozen part in front of it (the trunk, run without autograd); `embedding` is the
differentiable part behind it (the tail). Between them lie the positions (tokens, or places of a feature
map) that the tail reads.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from ..groups import groups, tail_group


class Activations(NamedTuple):
    """What the tail needs of one batch of clips or views.

    Attributes:
        inputs: float32 `[n, positions, in]`, input of the target layer.
        context: float32 `[n, positions, out]`, what else the tail reads (the residual stream).
    """

    inputs: torch.Tensor
    context: torch.Tensor


class Backbone(nn.Module, ABC):
    """A frozen backbone, split at its target layer.

    Attributes:
        width: dimensions of the embedding.
        positions: how many positions an activation has.
        gradient_positions: how many of the first positions the gradient sums over.
    """

    width: int
    positions: int
    gradient_positions: int

    @property
    @abstractmethod
    def target(self) -> nn.Linear:
        """The target layer."""

    @abstractmethod
    def activations(self, fbank: torch.Tensor) -> Activations:
        """Run the trunk without autograd on normalised log-mels `[n, frames, mel]`."""

    @abstractmethod
    def embedding(self, output: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The pooled embedding `[n, width]` from the target layer's output `[n, positions, out]`; differentiable."""

    @abstractmethod
    def set_precision(self, dtype: torch.dtype) -> "Backbone":
        """Cast the trunk's matrix products to `dtype`, once; the tail stays float32."""

    def pooled(self, activations: Activations) -> torch.Tensor:
        """The embedding `[n, width]` of stored activations, without autograd."""
        size = tail_group(self.positions, activations.inputs.device)
        with torch.no_grad():
            return torch.cat(
                [
                    self.embedding(self.target(inputs), context)[:count]
                    for count, (inputs, context) in groups(size, *activations)
                ]
            )

    @property
    def gradient_shape(self) -> tuple[int, int]:
        """Rows and columns of a clip's gradient `[weight | bias]`."""
        return self.target.out_features, self.target.in_features + (self.target.bias is not None)
