"""Embeddings of a batch, whether it holds what a network reads or what its trunk stored of that."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from ..models.base import Backbone, Inputs
from .groups import groups, tail_group

Batch = Inputs | Mapping[str, torch.Tensor]


def forwards(backbone: Backbone, batch: Batch, views: int) -> Iterator[tuple[int, Callable[[], torch.Tensor]]]:
    """Passes that together give the embeddings of a batch.

    What is stored goes through the tail in groups of one fixed size, so that a clip's numbers do not depend on
    how many come together.

    Yields:
        How many clips of the pass count, and what computes its embeddings, `[clips * views, width]`.
    """
    if isinstance(batch, Inputs):
        yield len(batch.lengths) // views, partial(backbone.embedding, batch)
        return
    clips = [tensor.unflatten(0, (-1, views)) for tensor in batch.values()]
    size = tail_group(views * clips[0].shape[2], clips[0].device)
    for count, parts in groups(size, *clips):
        stored = dict(zip(batch, (part.flatten(0, 1) for part in parts), strict=True))
        yield count, partial(pooled, backbone, stored)


def pooled(backbone: Backbone, stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The embedding `[n, width]` of what the trunk stored; differentiable behind the target layer."""
    return backbone.tail(stored, backbone.layer(stored["inputs"]))


@torch.no_grad()
def embeddings(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """The embeddings that losses read, `[n, width]`, without autograd."""
    return torch.cat([embed()[:count] for count, embed in forwards(backbone, batch, 1)])
