"""What the engine asks of a backbone of any family.

A family implements `embedding`, a plain forward pass. The gradient engine puts a hook on the target layer, so that
autograd runs on what follows it and nowhere else; no family writes a backward pass or splits its forward by hand.
A family may split its forward in `trunk` and `tail` when what its losses need of the trunk is small enough to keep:
then it runs once for all objectives and folds.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError
from ..frontends.base import FrontEnd

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)  # whose gradient `engine.gradient.factors` can form


class Inputs(NamedTuple):
    """A batch of what a network reads.

    Attributes:
        values: float32 `[n, frames, columns]`, normalised, padded with 0 at the end.
        lengths: int64 `[n]`, frames that belong to the clip; on the CPU, so that asking for them waits for no GPU.
    """

    values: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def alike(cls, values: torch.Tensor) -> "Inputs":
        """A batch of clips of one length."""
        return cls(values, torch.full((len(values),), values.shape[1]))


class Frames(NamedTuple):
    """Embeddings over time.

    Attributes:
        values: float32 `[n, T, d]`.
        lengths: int64 `[n]`, time steps that belong to the clip.
        milliseconds: float32 `[T]`, when each step begins.
    """

    values: torch.Tensor
    lengths: torch.Tensor
    milliseconds: torch.Tensor


class Backbone(nn.Module, ABC):
    """A frozen backbone.

    Attributes:
        frontend: what makes its inputs from a waveform.
        width: dimensions of the embedding that losses read.
        target: path of the layer whose gradient is the feature, e.g. ``"blocks.11.attn.proj"``.
        gradient_tokens: positions (axis 1 of the target layer's output) that the gradient sums over.
        equal_lengths: whether a batch may only hold clips of one length, since padding changes the numbers.
        shapes: what `trunk` keeps of one input, by name; ``inputs`` `[positions, in]` is the target layer's input.
            Empty when the losses read too much to be stored.
    """

    frontend: FrontEnd
    width: int
    target: str
    gradient_tokens: slice = slice(None)
    equal_lengths: bool = False
    shapes: Mapping[str, tuple[int, ...]] = {}

    @abstractmethod
    def embedding(self, x: Inputs) -> torch.Tensor:
        """What losses read, float32 `[n, width]`; differentiable behind the target layer."""

    def scene(self, x: Inputs) -> torch.Tensor:
        """The feature `embedding` of a clip, float32 `[n, any]`; what losses read unless a family says otherwise."""
        return self.embedding(x)

    def timestamps(self, x: Inputs) -> Frames:
        """Embeddings over time.

        Raises:
            ConfigError: the family has none.
        """
        raise ConfigError(f"{type(self).__name__} has no embeddings over time")

    @abstractmethod
    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output, a list a layer: for layer-wise learning rates and "last block only"."""

    @abstractmethod
    def set_precision(self, dtype: torch.dtype) -> "Backbone":
        """Cast the products in front of the target layer to `dtype`, once; what follows it stays float32."""

    def positions(self, frames: np.ndarray) -> np.ndarray:
        """About how many positions inputs of so many frames have; sizes the batches."""
        return frames * self.frontend.columns // 100

    @property
    def scene_width(self) -> int:
        """Dimensions of `scene`."""
        return self.width

    def trunk(self, x: Inputs) -> dict[str, torch.Tensor]:
        """What is kept of a batch, float32 `[n, *shape]` by name, without autograd."""
        raise NotImplementedError

    def tail(self, stored: Mapping[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """The embedding `[n, width]` from the target layer's output `[n, positions, out]`; differentiable."""
        raise NotImplementedError

    @property
    def layer(self) -> nn.Module:
        """The target layer.

        Raises:
            ConfigError: no such module, or one whose gradient is no sum of outer products.
        """
        try:
            layer = self.get_submodule(self.target)
        except AttributeError as error:
            raise ConfigError(f"target: {self.target} is no layer of this {type(self).__name__}") from error
        if not isinstance(layer, LAYERS):
            kinds = " or ".join(kind.__name__ for kind in LAYERS)
            raise ConfigError(f"target: {self.target} is a {type(layer).__name__}; expected a {kinds}")
        return layer

    @property
    def gradient_shape(self) -> tuple[int, int]:
        """Rows and columns of a clip's gradient `[weight | bias]`."""
        weight = self.layer.weight
        assert isinstance(weight, torch.Tensor)
        return len(weight), weight[0].numel() + (self.layer.bias is not None)
