"""Two dimensions of the features, to look at: principal components and t-SNE."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ..evaluate.blocks import concatenate
from ..files import features
from ..seeds import named_seed

MAPPED = ["features", "clip_id", "label", "pca_x", "pca_y", "tsne_x", "tsne_y"]
CLIPS = 1000
TSNE_INPUT = 50
FEWEST = 5


def maps(parts: Mapping[str, Sequence[str | Path]], combinations: Sequence[str], seed: int) -> pd.DataFrame:
    """Coordinates of the clips for every combination of features.

    t-SNE: L. van der Maaten and G. Hinton, "Visualizing data using t-SNE" (2008), on the first 50
    principal components, started from the first two.

    Args:
        parts: feature name -> its Parquet files.
        combinations: feature names joined with ``+``.
        seed: of the run; more than 1,000 clips are sampled with it.

    Returns:
        Columns `MAPPED`, coordinates float32; t-SNE is NaN for fewer than 5 clips. `attrs["made_by"]`: the
        metadata of every feature.

    Raises:
        DataError: features that do not belong together.
    """
    read = {name: features.read(paths) for name, paths in parts.items()}
    clips = features.same_clips({name: table for name, (table, _, _) in read.items()})
    seed = named_seed(seed, "map") % 2**32
    rows = np.arange(len(clips))
    if len(rows) > CLIPS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, CLIPS, replace=False))
    blocks = {name: block[rows] for name, (_, block, _) in read.items()}
    tables = []
    for combination in combinations:
        table = clips.loc[rows, ["clip_id", "label"]].assign(features=combination)
        table[MAPPED[3:]] = _coordinates(concatenate([blocks[name] for name in combination.split("+")]), seed)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)[MAPPED]
    table.attrs["made_by"] = {name: metadata for name, (_, _, metadata) in read.items()}
    return table


def _coordinates(x: np.ndarray, seed: int) -> np.ndarray:
    """float32 `[n, 4]`: two principal components, two dimensions of t-SNE."""
    components = PCA(min(TSNE_INPUT, *x.shape), svd_solver="full").fit_transform(x)
    found = np.full((len(x), 4), np.nan, dtype=np.float32)
    found[:, : min(2, components.shape[1])] = components[:, :2]
    if len(x) >= FEWEST:
        neighbours = min(30.0, (len(x) - 1) / 3)
        found[:, 2:] = TSNE(perplexity=neighbours, init="pca", random_state=seed).fit_transform(components)
    return found
