"""The comparison batch of a fold: random training clips whose views are the negatives of SimCLR."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .files import whole
from .seeds import named_seed

VIEWS = 2

log = logging.getLogger(__name__)


def choose(train: np.ndarray, count: int, seed: int, dataset: str, fold: str) -> np.ndarray:
    """`count` rows of the training clips, ascending; all of them, with a warning, when there are fewer."""
    if count > len(train):
        log.warning("fold %s has %d training clips, fewer than %d comparison clips; using all", fold, len(train), count)
        return train
    random = np.random.default_rng(named_seed(seed, "comparison", dataset, fold))
    return np.sort(random.choice(train, count, replace=False))


def save(path: str | Path, embedding: torch.Tensor, clips: pd.DataFrame, rows: np.ndarray) -> None:
    """Store embeddings float32 `[len(rows) * VIEWS, width]` with the clips' ids."""
    ids = json.dumps(clips["clip_id"].iloc[rows].tolist())
    with whole(path) as part:
        save_file({"embedding": embedding.cpu().contiguous()}, part, {"clip_id": ids})


def load(path: str | Path) -> tuple[torch.Tensor, list[str]]:
    """Embeddings `[m, width]`, and the clip id of each row."""
    with safe_open(path, "pt") as file:
        ids = json.loads(file.metadata()["clip_id"])
        return file.get_tensor("embedding"), [clip for clip in ids for _ in range(VIEWS)]
