"""The pooled output of the frozen backbone."""

import torch

from ..backbones.base import Activations, Backbone
from ..projection import Signs
from .base import Objective


class Embedding(Objective):
    """No loss: the feature is the embedding itself."""

    def features(self, backbone: Backbone, activations: Activations, signs: Signs | None) -> torch.Tensor:
        return backbone.pooled(activations)


build = Embedding
