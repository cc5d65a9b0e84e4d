"""What an objective is: something that turns a clip's activations into a feature."""

from abc import ABC, abstractmethod

import torch

from ..engine.gradient import gradient_terms
from ..engine.projection import Signs, project
from ..errors import ConfigError, NotFinite
from ..models.split import Activations, Backbone

TAIL_POSITIONS = 8192  # that go through the tail at once: 100 MB an MLP activation of the base model


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
        count = views * max(1, TAIL_POSITIONS // (views * activations.inputs.shape[1]))
        batches = zip(*(tensor.split(count) for tensor in activations), strict=True)
        terms = []
        for number, batch in enumerate(batches):
            try:
                terms.append(gradient_terms(backbone, Activations(*batch), self.loss, views))
            except NotFinite as error:
                raise NotFinite([number * count // views + clip for clip in error.clips]) from error
        delta, inputs = (torch.cat(tensors) for tensors in zip(*terms, strict=True))
        return project(delta, inputs, signs)
