"""Trained models on any clips, without training: embeddings of any layer, and scores of fine-tuned checkpoints."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..datasets import folds, labels
from ..errors import CheckpointError, ConfigError, DataError
from ..frontends import cache as fbank_cache
from ..frontends.kaldi import Fbank, normalise
from ..models.checkpoints import load
from ..models.ssast.definition import check_layer
from ..models.ssast.network import SPECIAL, SSAST, read
from ..progress import progress
from .classifier import WEIGHTED, Classifier, is_finetuned, load_classifier
from .finetune import predict

HEAD = "head"
BATCH = 16


class Model(NamedTuple):
    """A pretrained backbone, or a fine-tuned one with its classifier.

    Attributes:
        network: the backbone.
        classifier: None for a backbone that was not fine-tuned.
        statistics: mean and standard deviation that its inputs are normalised with.
    """

    network: SSAST
    classifier: Classifier | None
    statistics: tuple[float, float]


def open_model(
    path: str | Path,
    frames: int,
    statistics: tuple[float, float] | None,
    stride: tuple[int, int] | None = None,
    pooling: str = "avg",
) -> Model:
    """A checkpoint as it is to be used; a fine-tuned one brings its own frames, statistics, stride and pooling.

    Args:
        frames, statistics, stride, pooling: for a backbone that was not fine-tuned.

    Raises:
        CheckpointError: not a checkpoint.
    """
    if is_finetuned(path):
        classifier, metadata = load_classifier(path)
        return Model(classifier.v, classifier, (metadata["mean"], metadata["std"]))
    if statistics is None:
        raise CheckpointError(f"{path} is no checkpoint of this project's fine-tuning; its statistics are not known")
    options = {"stride": stride, "pooling": pooling, "gradient_tokens": "all"}
    return Model(read(load(path), {"frames": frames} | options), None, statistics)


@contextmanager
def log_mels(paths: Sequence[Path], frames: int, workers: int) -> Iterator[np.ndarray]:
    """Log-mels of clips in a temporary file, float32 `[clips, frames, mel]`."""
    with TemporaryDirectory() as folder:
        cache = Path(folder) / "fbank.npy"
        fbank_cache.build(paths, Fbank(frames), cache, workers)
        yield fbank_cache.open_array(cache)


def embed(model: Model, fbank: torch.Tensor, layer: int | str, tokens: bool) -> torch.Tensor:
    """Embeddings of normalised log-mels `[n, frames, mel]`.

    Args:
        layer: a block (after the final norm), ``"weighted"`` (the learnt sum of all) or ``"head"`` (the
            fine-tuned head's dense layer with its activation).
        tokens: each patch or frame token instead of the pooled embedding.

    Returns:
        float32 `[n, width]`, or `[n, tokens * width]`, row-major over mel, time, width.

    Raises:
        ConfigError: the model has no such layer.
    """
    network, classifier = model.network, model.classifier
    if layer == HEAD:
        if classifier is None or not len(classifier.dense) or tokens:
            raise ConfigError(
                "layer: head is the pooled output of a fine-tuned head's dense layer; this model has none"
            )
        return classifier.dense(classifier.embed(fbank))
    if layer == WEIGHTED:
        if classifier is None or classifier.layer_weights is None:
            raise ConfigError("layer: weighted needs a model that was fine-tuned with layer: weighted")
        hidden = classifier.tokens(fbank)
    else:
        blocks = len(network.blocks)
        check_layer(int(layer), blocks)
        hidden = network.tokens(network.patch_embed(fbank))
        for block in network.blocks[: int(layer) % blocks + 1]:
            hidden = block(hidden)
        hidden = network.norm(hidden)
    return hidden[:, SPECIAL:].flatten(1) if tokens else network.pool(hidden)


@torch.no_grad()
def embeddings(
    model: Model, fbank: np.ndarray, layer: int | str, tokens: bool, device: torch.device, largest: int = 1 << 29
) -> Iterator[tuple[int, np.ndarray]]:
    """Embeddings of clips in parts of at most `largest` bytes.

    Args:
        fbank: float32 `[clips, frames, mel]`, not normalised.

    Yields:
        First clip of the part, embeddings float32 `[clips of the part, values]`.
    """
    moved = model.network.to(device) if model.classifier is None else model.classifier.to(device)
    moved.eval()
    parts: list[np.ndarray] = []
    first, size = 0, 0
    with progress("embed", len(fbank)) as bar:
        for start in range(0, len(fbank), BATCH):
            batch = normalise(torch.from_numpy(fbank[start : start + BATCH]).to(device), *model.statistics)
            part = embed(model, batch, layer, tokens).cpu().numpy()
            if parts and size + part.nbytes > largest:
                yield first, np.concatenate(parts)
                first, size, parts = start, 0, []
            parts.append(part)
            size += part.nbytes
            bar.update(len(part))
    yield first, np.concatenate(parts)


class Shared(NamedTuple):
    """The test clips of another dataset whose classes a checkpoint knows.

    Attributes:
        rows: of the clip table.
        classes: names, in the checkpoint's order.
        columns: their outputs.
        targets: bool `[len(rows), len(classes)]`.
    """

    rows: np.ndarray
    classes: list[str]
    columns: list[int]
    targets: np.ndarray


def shared_clips(table: pd.DataFrame, classes: Sequence[str], fold: str, multilabel: bool) -> Shared:
    """Match a dataset with a checkpoint by the names of classes; clips with no shared class are left out.

    Raises:
        DataError: no class is shared.
    """
    test = folds.held_out(table, fold)
    listed = labels.names(table.iloc[test], multilabel)
    present = {name for of_clip in listed for name in of_clip}
    names = [name for name in classes if name in present]
    if not names:
        raise DataError(
            f"the checkpoint's classes ({', '.join(classes[:5])}, …) and the dataset's "
            f"({', '.join(sorted(present)[:5])}, …) have no name in common; nothing can be evaluated"
        )
    targets = labels.matrix([[name for name in of_clip if name in names] for of_clip in listed], names)
    kept = targets.any(axis=1)
    return Shared(test[kept], names, [list(classes).index(name) for name in names], targets[kept])


def scores_of(model: Model, fbank: np.ndarray, shared: Shared, loss: str, device: torch.device) -> np.ndarray:
    """Probabilities of the shared classes, float32 `[clips, classes]`; `fbank` holds the shared clips."""
    assert model.classifier is not None
    classifier: Any = model.classifier.to(device)
    return predict(classifier, fbank, np.arange(len(fbank)), model.statistics, loss)[:, shared.columns].numpy()
