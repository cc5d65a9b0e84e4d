"""The linear probe finds the optimum, for one and for several labels a clip."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from fungi_audio.evaluate import linear
from fungi_audio.evaluate.blocks import concatenate, pca

PENALTIES = [1e-6, 1e-4, 1e-2, 1.0]


def clusters(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(d)
    labels = np.arange(n) % classes
    spectrum = np.arange(1, d + 1) ** -0.5
    x = (rng.normal(size=(classes, d))[labels] + 2 * rng.normal(size=(n, d))) * spectrum
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("d", [10, 150])
def test_softmax_optimum_equals_scikit_learn(d: int) -> None:
    x, labels = clusters(100, d, classes=5)
    targets = np.eye(5, dtype=bool)[labels]
    objective = linear.softmax(x.astype(np.float64), targets)
    for l2, weights in zip(PENALTIES, linear.path(x, targets, PENALTIES), strict=True):
        reference = LogisticRegression(C=1 / (100 * l2), fit_intercept=False, tol=1e-8, max_iter=20_000)
        reference.fit(x.astype(np.float64), labels)
        found = objective(weights.astype(np.float64), l2)[0]
        assert found == pytest.approx(objective(reference.coef_.T, l2)[0], rel=2e-4)
        predictions = reference.predict(x)
        assert np.sum((x @ weights).argmax(axis=1) != predictions) <= 1


def test_one_vs_rest_optimum_equals_scikit_learn() -> None:
    x, labels = clusters(120, 20, classes=4)
    targets = np.eye(4, dtype=bool)[labels] | np.eye(4, dtype=bool)[(labels * 7 + 1) % 4]
    (weights,) = linear.path(x, targets, [1e-3], multilabel=True)
    for c in range(4):
        reference = LogisticRegression(C=1 / (120 * 1e-3), fit_intercept=False, tol=1e-8, max_iter=10_000)
        reference.fit(x.astype(np.float64), targets[:, c])
        np.testing.assert_allclose(weights[:, c], reference.coef_[0], atol=5e-3 * np.abs(reference.coef_).max())


@pytest.mark.parametrize("loss", [linear.softmax, linear.one_vs_rest])
def test_gradients(loss: Callable[[np.ndarray, np.ndarray], linear.Objective]) -> None:
    x, labels = clusters(30, 6, classes=3)
    objective = loss(x.astype(np.float64), np.eye(3, dtype=bool)[labels])
    start = np.random.default_rng(0).normal(size=18)

    def value(w: np.ndarray) -> float:
        return objective(w.reshape(6, 3), 0.1)[0]

    def gradient(w: np.ndarray) -> np.ndarray:
        return objective(w.reshape(6, 3), 0.1)[1].ravel()

    assert check_grad(value, gradient, start) < 1e-6


def test_weights_come_back_in_the_order_asked_for() -> None:
    x, labels = clusters(40, 8, classes=2)
    targets = np.eye(2, dtype=bool)[labels]
    for a, b in zip(linear.path(x, targets, [1e-3, 1.0]), linear.path(x, targets, [1.0, 1e-3])[::-1], strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 2**32))
def test_holdout_is_stratified_and_keeps_a_clip_of_every_class(labels: list[int], seed: int) -> None:
    values = np.array(labels)
    fit, valid = linear.holdout(values, seed)
    assert sorted([*fit, *valid]) == list(range(len(labels)))
    assert np.all(np.diff(fit) > 0) and np.all(np.diff(valid) > 0)
    for label in set(labels):
        n, held = labels.count(label), int(np.sum(values[valid] == label))
        assert held == (0 if n == 1 else max(1, round(0.2 * n)))


def test_holdout_depends_on_the_seed_only() -> None:
    labels = np.repeat(np.arange(5), 20)
    a, b, c = (linear.holdout(labels, seed)[1].tolist() for seed in (1, 1, 2))
    assert a == b != c


def golden(shared: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, dict[str, list[float]]]]]:
    data = dict(np.load(shared / "golden/eval_golden.npz"))
    return data, json.loads((shared / "golden/eval_golden.json").read_text())


def features(data: dict[str, np.ndarray], combination: str) -> np.ndarray:
    splits = ("train", "valid", "test")
    return concatenate([np.concatenate([data[f"{s}_{block}"] for s in splits]) for block in combination.split("+")])


def test_exact_optimum(shared: Path) -> None:
    data, runs = golden(shared)
    exact = runs["exact_optimum_all_blocks_trainset_only"]["lambdas"]
    x = features(data, "embeddings+kl+simclr")
    components = pca(x, np.arange(200), 24)
    assert components is not None
    np.testing.assert_allclose(components.variance, data["pca_explained_variance_all"], rtol=1e-4)
    x = components(x)
    targets = np.eye(5, dtype=bool)[data["train_targets"]]
    penalties = [float(penalty) for penalty in exact]
    for l2, weights in zip(penalties, linear.path(x[:200], targets, penalties), strict=True):
        expected = exact[str(l2)]
        value = linear.softmax(x[:200].astype(np.float64), targets)(weights.astype(np.float64), l2)[0]
        assert value == pytest.approx(expected["objective"], rel=1e-5)
        predictions = (x[260:] @ weights).argmax(axis=1)
        assert np.sum(predictions != expected["test_predictions"]) <= 2
        assert np.mean((x[200:260] @ weights).argmax(axis=1) == data["valid_targets"]) == expected["valid_accuracy"]


@pytest.mark.parametrize("run", ["linear_pca24_validfile", "linear_pca24_splitvalid", "linear_pca24_validfile_shots10"])
def test_published_probes(run: str, shared: Path) -> None:
    """cyanure stops early, so a few test clips differ from the optimum that we find."""
    data, runs = golden(shared)
    labels = np.concatenate([data[f"{split}_targets"] for split in ("train", "valid", "test")]).astype(int)
    targets = np.eye(5, dtype=bool)[labels]
    fit, valid = np.arange(200), np.arange(200, 260)
    if "splitvalid" in run:
        splitter = StratifiedShuffleSplit(n_splits=1, train_size=0.8, random_state=42)
        fit, valid = (np.sort(rows) for rows in next(splitter.split(fit, labels[:200])))
    if "shots10" in run:
        fit = np.sort(np.concatenate([np.flatnonzero(labels[:200] == c)[:10] for c in range(5)]))
    final = np.concatenate([fit, valid]) if "splitvalid" in run else fit
    for combination, expected in runs[run].items():
        x = features(data, combination)
        components = pca(x, fit, 24)
        assert components is not None
        x = components(x)
        penalties = expected["validation_lambdas"]
        paths = linear.path(x[fit], targets[fit], penalties)
        accuracies = [np.mean((x[valid] @ w).argmax(axis=1) == labels[valid]) for w in paths]
        np.testing.assert_allclose(accuracies, expected["validation_accuracies"], atol=1.5 / 60)
        (weights,) = linear.path(x[final], targets[final], [penalties[int(np.argmax(accuracies))]])
        assert np.sum((x[260:] @ weights).argmax(axis=1) != expected["predictions"]) <= 2
