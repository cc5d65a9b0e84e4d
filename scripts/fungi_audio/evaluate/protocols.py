"""Every protocol on one combination of features and one fold."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from ..datasets.folds import Split
from ..seeds import named_seed
from . import knn, linear
from .blocks import pca, warn_once
from .few_shot import draw
from .metrics import MULTI_LABEL, SINGLE_LABEL, Metrics

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What one protocol says about the test clips.

    Attributes:
        protocol: `knn`, `knn-cosine` or `linear`.
        shots: training clips a class; 0 means all.
        draw: number of the few-shot draw, from 0.
        chosen: the hyper-parameters used.
        votes: float `[test clips, classes]`; shares in [0, 1] where clips have several labels.
        n_train: clips trained on.
    """

    protocol: str
    shots: int
    draw: int
    chosen: dict[str, Any]
    votes: np.ndarray
    n_train: int


@dataclass(frozen=True)
class Task:
    """The inputs of all protocols.

    Attributes:
        x: float32 `[n, width]`, normalised blocks side by side.
        targets: bool `[n, classes]`.
        split: rows of the fold.
        multilabel: clips may have several labels.
        pca: dimensions kept; 0 keeps all.
        settings: the `evaluation` section of the config.
        seed: of the run.
        name: dataset and fold, so that every combination of features gets the same draws.
    """

    x: np.ndarray
    targets: np.ndarray
    split: Split
    multilabel: bool
    pca: int
    settings: Mapping[str, Any]
    seed: int
    name: tuple[str, str]

    @property
    def metrics(self) -> Metrics:
        """The first one chooses the penalty."""
        return MULTI_LABEL if self.multilabel else SINGLE_LABEL

    def reduced(self, rows: np.ndarray) -> np.ndarray:
        """`x` on the principal components of some rows."""
        components = pca(self.x, rows, self.pca)
        return self.x if components is None else components(self.x)


def outcomes(task: Task) -> Iterator[Outcome]:
    """All protocols with all training clips, then for every few-shot draw.

    Raises:
        ConfigError: k is larger than the training set.
    """
    train, valid, _ = task.split
    ks = sorted(set(task.settings["knn"]["k"]))
    knn.check_k(ks, len(train))
    unseen = task.targets[task.split.test].any(axis=0) & ~task.targets[train].any(axis=0)
    if unseen.any():
        logger.warning("%d classes of the test clips have no training clip", unseen.sum())

    yield from _nearest(task, train, ks, shots=0, number=0)
    yield _linear(task, train, np.concatenate([train, valid]), shots=0, number=0)
    few_shot = task.settings["few_shot"]
    for shots in sorted(set(few_shot["shots"])):
        for number in range(few_shot["draws"]):
            seed = named_seed(task.seed, "few_shot", *task.name, shots, number)
            rows = train[draw(task.targets[train], shots, seed)]
            fitting = [k for k in ks if k <= len(rows)]
            if fitting != ks:
                left_out = ", ".join(map(str, ks[len(fitting) :]))
                warn_once(f"{shots} shots: k = {left_out} left out, the draw has {len(rows)} clips")
            yield from _nearest(task, rows, fitting, shots, number)
            yield _linear(task, rows, rows, shots, number)


def _nearest(task: Task, train: np.ndarray, ks: list[int], shots: int, number: int) -> Iterator[Outcome]:
    if not ks:
        return
    x = task.reduced(train)
    data = x[train], task.targets[train], x[task.split.test], ks
    settings = task.settings["knn"]
    if "uniform" in settings["votes"]:
        for k, votes in knn.uniform_votes(*data):
            yield Outcome("knn", shots, number, {"k": k}, votes, len(train))
    if "cosine" in settings["votes"]:
        for k, votes in knn.cosine_votes(*data, settings["temperature"]):
            yield Outcome("knn-cosine", shots, number, {"k": k}, votes, len(train))


def _linear(task: Task, train: np.ndarray, final: np.ndarray, shots: int, number: int) -> Outcome:
    """The penalty is chosen on the validation clips, or on a fifth of `train`; then `final` is fitted.

    The principal components are those of the clips that the penalty's choice is fitted on.
    """
    grid = task.settings["linear"]["l2"]
    penalties = np.logspace(grid["from"], grid["to"], grid["values"]).tolist()
    fit, valid = train, task.split.valid
    if not len(valid):
        kinds = linear.strata(task.targets[train], task.multilabel)
        fitted, held_out = linear.holdout(kinds, named_seed(task.seed, "holdout", *task.name, shots, number))
        fit, valid = train[fitted], train[held_out]
    x = task.reduced(fit)
    best = _best_penalty(task, x, fit, valid, penalties)
    l2 = float(f"{penalties[best]:.4g}")
    at_edge = len(valid) > 0 and len(penalties) > 1 and best in (0, len(penalties) - 1)
    if at_edge:
        end = "lowest" if best == 0 else "highest"
        advice = f" ({shots} shots)" if shots else "; widen evaluation.linear.l2"
        warn_once(f"linear probe: the chosen penalty l2 = {l2:g} is the {end} tried{advice}")
    (weights,) = linear.path(x[final], task.targets[final], [penalties[best]], task.multilabel)
    votes = x[task.split.test] @ weights
    if task.multilabel:
        votes = expit(votes)
    return Outcome("linear", shots, number, {"l2": l2, "at_edge": at_edge}, votes, len(final))


def _best_penalty(task: Task, x: np.ndarray, fit: np.ndarray, valid: np.ndarray, penalties: list[float]) -> int:
    """Index of the penalty with the best score on `valid`; of several equally good ones the middle one."""
    scores = np.zeros(len(penalties))
    if len(valid):
        score = next(iter(task.metrics.values()))
        weights = linear.path(x[fit], task.targets[fit], penalties, task.multilabel)
        scores = np.nan_to_num([score(x[valid] @ w, task.targets[valid]) for w in weights])
    else:
        warn_once(f"linear probe: no clip to validate on ({len(fit)} training clips), the middle penalty is taken")
    equally_good = np.flatnonzero(scores == scores.max())
    return int(equally_good[len(equally_good) // 2])
