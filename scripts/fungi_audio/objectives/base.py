"""What an objective is: something that turns a clip's activations into a feature."""

from abc import ABC, abstractmethod

import torch

from ..backbones.base import Activations, Backbone
from ..errors import ConfigError, NotFinite
from ..gradient import gradient_terms
from ..groups import groups, tail_group
from ..projection import Signs, project


class Objective(ABC):
    """One kind of feature.

    Attributes:
        views: augmented views of a clip that it reads; 0 for the clean clip.
    """

    views: int = 0

    @abstractmethod
    def features(self, backbone: Backbone, activations: Activations, signs: Signs | None) -> torch.Tensor:
        """Features float32 `[n, d]` from the activations of ``n * max(views, 1)`` inputs.

        Args:
            signs: the projection; gradients need one, the embedding does not.

        Raises:
            NotFinite: a loss or gradient is NaN or Inf.
        """


class GradientObjective(Objective):
    """A feature that is the projected gradient of a self-supervised loss."""

    @abstractmethod
    def loss(self, embedding: torch.Tensor) -> torch.Tensor:
        """One loss a clip, `[n]`, from embeddings `[n, max(views, 1), width]`, at the published scale."""

    def features(self, backbone: Backbone, activations: Activations, signs: Signs | None) -> torch.Tensor:
        if signs is None:
            raise ConfigError("a gradient feature needs a projection")
        views = max(self.views, 1)
        clips = [tensor.unflatten(0, (-1, views)) for tensor in activations]
        size = tail_group(views * activations.inputs.shape[1], activations.inputs.device)
        terms = []
        for number, (count, parts) in enumerate(groups(size, *clips)):
            try:
                batch = gradient_terms(backbone, Activations(*(part.flatten(0, 1) for part in parts)), self.loss, views)
            except NotFinite as error:
                raise NotFinite([number * size + clip for clip in error.clips if clip < count]) from error
            terms.append([tensor[:count] for tensor in batch])
        delta, inputs = (torch.cat(tensors) for tensors in zip(*terms, strict=True))
        return project(delta, inputs, signs)
