"""The pooled output of the frozen backbone."""

import torch

from ..engine.projection import Signs
from ..models.split import Activations, Backbone
from .base import Objective


class Embedding(Objective):
    """No loss: the feature is the embedding itself."""

    def features(self, backbone: Backbone, activations: Activations, signs: Signs | None) -> torch.Tensor:
        return backbone.pooled(activations)


build = Embedding
