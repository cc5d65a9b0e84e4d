"""The pooled output of the frozen backbone."""

import torch

from ..engine.batch import Batch, embeddings
from ..engine.projection import Signs
from ..models.base import Backbone, Inputs
from .base import Objective


class Embedding(Objective):
    """No loss: the feature is the embedding itself."""

    def width(self, backbone: Backbone, signs: Signs | None) -> int:
        return backbone.scene_width

    @torch.no_grad()
    def compute(self, backbone: Backbone, batch: Batch, keys: torch.Tensor | None = None) -> torch.Tensor:
        return backbone.scene(batch) if isinstance(batch, Inputs) else embeddings(backbone, batch)


build = Embedding
