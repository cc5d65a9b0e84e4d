"""Per-clip gradients of the target layer, never formed a token at a time.

For ``y = W x + b`` a clip's gradient is ``G = sum_t delta_t [x_t; 1]^T`` over the positions and views that
the loss reads, with ``delta_t = dL/dy_t`` from autograd on the short tail behind the target layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from ..errors import NotFinite
from ..models.split import Activations, Backbone


class Terms(NamedTuple):
    """A clip's gradient as a sum of rank-one terms.

    Attributes:
        delta: float32 `[n, terms, out]`.
        inputs: float32 `[n, terms, in]`.
    """

    delta: torch.Tensor
    inputs: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """The gradients `[weight | bias]`, float32 `[n, out, in + 1]` (for tests and small batches)."""
        ones = self.inputs.new_ones(*self.inputs.shape[:-1], 1)
        return self.delta.transpose(1, 2) @ torch.cat([self.inputs, ones], dim=-1)


def gradient_terms(
    backbone: Backbone, activations: Activations, loss: Callable[[torch.Tensor], torch.Tensor], views: int = 1
) -> Terms:
    """Gradient terms of the clips in a batch.

    Args:
        activations: of ``n * views`` inputs, the views of a clip next to each other.
        loss: from embeddings, float64 `[n, views, width]`, to one loss a clip `[n]`. Float64 because the
            KL loss cancels: in float32 its gradient is off by 6e-5.

    Raises:
        NotFinite: a loss or gradient is NaN or Inf.
    """
    inputs, context = (tensor.clone() for tensor in activations)
    with torch.enable_grad():
        output = backbone.target(inputs).detach().requires_grad_()
        embedding = backbone.embedding(output, context)
        losses = loss(embedding.view(-1, views, backbone.width).double())
        (delta,) = torch.autograd.grad(losses.sum(), output)
    n = len(losses)
    finite = torch.isfinite(losses) & torch.isfinite(delta).view(n, -1).all(dim=1)
    if not finite.all():
        raise NotFinite(torch.nonzero(~finite).flatten().tolist())
    keep = backbone.gradient_positions
    return Terms(delta[:, :keep].reshape(n, views * keep, -1), inputs[:, :keep].reshape(n, views * keep, -1))
