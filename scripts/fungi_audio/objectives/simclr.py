"""Contrastive loss between the views of a clip and a batch of training clips (SimCLR; FUNGI, section 3)."""

import torch
import torch.nn.functional as F

from ..engine.projection import Head
from .base import GradientObjective


class SimCLR(GradientObjective):
    """``sum_v [ -sum_{w != v} s(v, w) / T / (V - 1) + logsumexp(s(v, .) / q) ]`` with cosine similarities s.

    The log-sum-exp runs over the other views and the comparison features. ``loss="reference"`` is the
    published code: q = 1, only the positives are divided by the temperature. ``"corrected"`` is InfoNCE:
    q = T. The sum over views, where the loss is their mean, is the published scale of the gradient.

    Args:
        head: random linear map on the raw embedding.
        comparison: embeddings float32 `[m, width]` of the comparison clips' views.
        views: V, at least 2.
    """

    def __init__(
        self,
        head: Head,
        comparison: torch.Tensor,
        views: int = 16,
        temperature: float = 0.07,
        loss: str = "reference",
    ) -> None:
        self.head, self.views, self.temperature = head, views, temperature
        self.negative_temperature = 1.0 if loss == "reference" else temperature
        self.comparison = F.normalize(head(comparison.double()), dim=-1)

    def loss(self, embedding: torch.Tensor) -> torch.Tensor:
        views = F.normalize(self.head(embedding), dim=-1)
        own = views @ views.transpose(1, 2)
        itself = torch.eye(self.views, dtype=torch.bool, device=own.device)
        positives = own.masked_fill(itself, 0).sum(-1) / (self.views - 1)
        negatives = views @ self.comparison.to(views).T
        everything = torch.cat([negatives, own.masked_fill(itself, -torch.inf)], dim=-1)
        return (torch.logsumexp(everything / self.negative_temperature, dim=-1) - positives / self.temperature).sum(-1)


build = SimCLR
