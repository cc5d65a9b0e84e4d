"""KL divergence between the uniform distribution and the softmax of a random head (FUNGI, section 3)."""

import math

import torch
import torch.nn.functional as F

from ..engine.projection import Head
from .base import GradientObjective


class KL(GradientObjective):
    """``(1 / d^2) sum_c (log(1/d) - log softmax(z / T)_c)``, z = head(e / |e|).

    The factor 1/d^2 (1/d of the uniform target, 1/d of PyTorch's ``reduction="mean"``) is the published
    scale; it vanishes when features are normalised.

    Args:
        head: the random linear map.
        temperature: T.
    """

    def __init__(self, head: Head, temperature: float = 15.0) -> None:
        self.head, self.temperature = head, temperature

    def loss(self, embedding: torch.Tensor) -> torch.Tensor:
        logits = self.head(F.normalize(embedding[:, 0], dim=-1))
        d = logits.shape[-1]
        return (-math.log(d) - F.log_softmax(logits / self.temperature, dim=-1)).sum(-1) / d**2


build = KL
