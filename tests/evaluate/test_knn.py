"""k nearest neighbours against scikit-learn and the published numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from fungi_audio.errors import ConfigError
from fungi_audio.evaluate import knn
from fungi_audio.evaluate.blocks import concatenate, pca


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1, dtype=bool)[labels]


def test_shares_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(90, 16)).astype(np.float32), rng.normal(size=(40, 16)).astype(np.float32)
    labels = rng.integers(0, 6, 90)
    votes = dict(knn.uniform_votes(train, one_hot(labels), test, [1, 4, 20]))
    assert list(votes) == [1, 4, 20]
    for k, shares in votes.items():
        reference = KNeighborsClassifier(k, algorithm="brute").fit(train, labels)
        np.testing.assert_allclose(shares, reference.predict_proba(test), atol=1e-12)
        np.testing.assert_array_equal(shares.argmax(axis=1), reference.predict(test))


def test_a_tie_goes_to_the_smaller_class() -> None:
    train = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    ((_, votes),) = knn.uniform_votes(train, one_hot(np.array([2, 1, 1, 2])), np.array([[1.4]], dtype=np.float32), [4])
    assert votes.argmax(axis=1) == [1]


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (12, 2), elements=st.integers(-3, 3)),
    arrays(np.float32, (5, 2), elements=st.integers(-3, 3)),
    st.integers(1, 12),
)
def test_neighbours_are_the_nearest_even_among_duplicates(train: np.ndarray, test: np.ndarray, k: int) -> None:
    distances, indices = knn.neighbours(train, test, k)
    exact = ((test[:, None].astype(float) - train[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :k], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, axis=1), distances, atol=1e-9)
    assert all(len(set(row)) == k for row in indices.tolist())


def test_a_search_in_pieces_is_the_same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(31, 8)).astype(np.float32)
    whole = knn.neighbours(train, test, 7)
    monkeypatch.setattr(knn, "DISTANCES_AT_ONCE", 200)
    for a, b in zip(whole, knn.neighbours(train, test, 7), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cosine_votes_are_the_formula() -> None:
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    ((_, votes),) = knn.cosine_votes(train, one_hot(labels), test, [6], temperature=0.07)
    for x, shares in zip(test.astype(float), votes, strict=True):
        similarity = train.astype(float) @ x / np.linalg.norm(train.astype(float), axis=1) / np.linalg.norm(x)
        nearest = np.argsort(-similarity)[:6]
        weights = np.exp(similarity[nearest] / 0.07)
        expected = [weights[labels[nearest] == c].sum() / weights.sum() for c in range(3)]
        np.testing.assert_allclose(shares, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0014, 0.001, 1e-6, 1e-300])
@pytest.mark.fault("k-NN", "a temperature of {temperature}", "the nearest neighbour decides; no overflow")
def test_a_low_temperature_is_the_nearest_neighbour(temperature: float) -> None:
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        ((_, votes),) = knn.cosine_votes(train, one_hot(labels), test, [6], temperature)
        ((_, nearest),) = knn.cosine_votes(train, one_hot(labels), test, [1], temperature)
    assert np.isfinite(votes).all()
    np.testing.assert_array_equal(votes.argmax(axis=1), nearest.argmax(axis=1))


def test_more_neighbours_than_clips_is_refused() -> None:
    knn.check_k([1, 20], 20)
    with pytest.raises(ConfigError, match=r"knn\.k asks for 50, 100 neighbours, but the fold has only 20 training"):
        knn.check_k([1, 50, 100], 20)


RUNS = {  # name of the run -> (PCA, k)
    "knn_pca24_k5": (24, 5), "knn_pca24_k1": (24, 1), "knn_pca24_k20": (24, 20),
    "knn_pca32_k5": (32, 5), "knn_pca32_k1": (32, 1), "knn_pca32_k20": (32, 20),
    "knn_pca24_k5_shots10": (24, 5), "knn_binary_pca24_k5": (24, 5),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_published_predictions(run: str, shared: Path) -> None:
    data = np.load(shared / "golden/eval_golden.npz")
    expected = json.loads((shared / "golden/eval_golden.json").read_text())[run]
    assert len(expected) == 7
    labels, truth = data["train_targets"].astype(int), data["test_targets"].astype(int)
    if "binary" in run:
        labels, truth = (labels >= 2).astype(int), (truth >= 2).astype(int)
    rows = np.arange(len(labels))
    if "shots10" in run:
        rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(5)]))
    dimensions, k = RUNS[run]
    for combination, golden in expected.items():
        blocks = [np.concatenate([data[f"train_{b}"], data[f"test_{b}"]]) for b in combination.split("+")]
        x = concatenate(blocks)
        components = pca(x, rows, dimensions)
        x = components(x) if components else x
        ((_, votes),) = knn.uniform_votes(x[rows], one_hot(labels[rows]), x[len(labels) :], [k])
        assert votes.argmax(axis=1).tolist() == golden["predictions"]
        assert np.mean(votes.argmax(axis=1) == truth) == pytest.approx(golden["accuracy"])
        if golden["auc"] is not None:
            assert roc_auc_score(truth, votes[:, 1]) == pytest.approx(golden["auc"])
