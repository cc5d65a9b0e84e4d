"""The comparison batch of a fold: random training clips whose views are the negatives of SimCLR."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import ConfigError
from ..files.whole import whole
from ..models.base import Backbone, Inputs
from ..progress import progress
from ..seeds import named_seed
from .batch import embeddings
from .encode import Computed, encode
from .inputs import Pool

VIEWS = 2
STREAM = "comparison"  # of their random views
KEY = "fungi_audio"  # of the metadata

log = logging.getLogger(__name__)


def choose(train: np.ndarray, count: int, seed: int, dataset: str, fold: str) -> np.ndarray:
    """`count` rows of the training clips, ascending; all of them, with a warning, when there are fewer."""
    if count > len(train):
        log.warning("fold %s has %d training clips, fewer than %d comparison clips; using all", fold, len(train), count)
        return train
    random = np.random.default_rng(named_seed(seed, "comparison", dataset, fold))
    return np.sort(random.choice(train, count, replace=False))


def embed(backbone: Backbone, pool: Pool) -> torch.Tensor:
    """Embeddings of the comparison clips' views, float32 `[clips * VIEWS, width]`, on the backbone's device."""

    def compute(batch: Inputs, _: np.ndarray) -> Computed:
        return backbone.trunk(batch) if backbone.shapes else {"embedding": embeddings(backbone, batch)}

    with progress("comparison clips", len(pool.rows)) as bar:
        ((_, made),) = encode(backbone, pool, compute, len(pool.rows), bar=bar)
    return embeddings(backbone, made) if backbone.shapes else made["embedding"]


def save(path: str | Path, embedding: torch.Tensor, clip_ids: Sequence[str], made: Mapping[str, Any]) -> None:
    """Store embeddings float32 `[len(clip_ids) * VIEWS, width]` with the clips' ids and the machine (`made_on`)."""
    with whole(path) as part:
        about = json.dumps({"clip_id": list(clip_ids), "made": made}, sort_keys=True)
        save_file({"embedding": embedding.cpu().contiguous()}, part, {KEY: about})  # one key: one order


def load(path: str | Path, precision: str) -> torch.Tensor:
    """Embeddings `[m, width]`.

    Args:
        precision: of the views that are compared with them.

    Raises:
        ConfigError: they were encoded in another precision, which changes the gradients.
    """
    with safe_open(path, "pt") as file:
        made = json.loads(file.metadata()[KEY])["made"]
        if made["precision"] != precision:
            raise ConfigError(
                f"{path} was encoded in {made['precision']} ({made['device']}), the views in {precision}; set "
                "`precision` in the config, so that every machine uses the same one, and run again"
            )
        embedding: torch.Tensor = file.get_tensor("embedding")
        return embedding
