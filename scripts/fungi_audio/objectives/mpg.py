"""Masked patch generation: the backbone's own generative pretext loss (SSAST, equation 2)."""

from ..models.ssast.definition import MASKS
from .pretext import Masked


def build(masks: int = MASKS, masked: float = 0.78) -> Masked:
    return Masked("mpg", masks, masked)
