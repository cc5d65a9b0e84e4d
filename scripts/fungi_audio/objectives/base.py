"""What an objective is: something that turns what a backbone makes of a clip into a feature."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from ..engine.batch import Batch, forwards
from ..engine.gradient import Factors, gradient
from ..engine.projection import Signs, project
from ..errors import NotFinite
from ..models.base import Backbone


class Objective(ABC):
    """One kind of feature.

    Attributes:
        views: augmented views of a clip that it reads; 0 for the clean clip.
        pretext: whether it reads the backbone's pretext heads.
    """

    views: int = 0
    pretext: bool = False

    @abstractmethod
    def width(self, backbone: Backbone, signs: Signs | None) -> int:
        """Dimensions of the feature."""

    def keys(self, seed: int, clip_ids: Sequence[str]) -> torch.Tensor | None:
        """Keys of the random numbers that it draws for each clip itself, int64 `[clips, any]`."""
        return None

    @abstractmethod
    def compute(self, backbone: Backbone, batch: Batch, keys: torch.Tensor | None = None) -> torch.Tensor | Factors:
        """The feature float32 `[n, d]` of ``n * max(views, 1)`` inputs, or the gradients that it is projected from.

        Args:
            keys: of the clips, from `keys`.

        Raises:
            NotFinite: a loss or gradient is NaN or Inf.
        """

    def features(
        self, backbone: Backbone, batch: Batch, signs: Signs | None, keys: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features float32 `[n, d]`; `compute`, and the projection of gradients."""
        made = self.compute(backbone, batch, keys)
        if isinstance(made, torch.Tensor):
            return made
        assert signs is not None
        return project(made, signs)


class GradientObjective(Objective):
    """A feature that is the projected gradient of a self-supervised loss on the embedding."""

    @abstractmethod
    def loss(self, embedding: torch.Tensor) -> torch.Tensor:
        """One loss a clip, `[n]`, from embeddings float64 `[n, max(views, 1), width]`, at the published scale.

        Float64 because losses cancel: in float32 the gradient of KL is off by 6e-5.
        """

    def width(self, backbone: Backbone, signs: Signs | None) -> int:
        assert signs is not None
        return len(signs.bits)

    def compute(self, backbone: Backbone, batch: Batch, keys: torch.Tensor | None = None) -> Factors:
        views = max(self.views, 1)
        terms, first = [], 0
        for count, embed in forwards(backbone, batch, views):

            def losses(embed: Callable[[], torch.Tensor] = embed) -> torch.Tensor:
                return self.loss(embed().unflatten(0, (-1, views)).double())

            try:
                made = gradient(backbone, losses)
            except NotFinite as error:
                raise NotFinite([first + clip for clip in error.clips if clip < count]) from error
            terms.append([part[:count] for part in made])
            first += count
        return Factors(*(torch.cat(part) for part in zip(*terms, strict=True)))
