"""From feature files to scores and predictions."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score, roc_auc_score

from fungi_audio.errors import ConfigError, DataError
from fungi_audio.evaluate import blocks, few_shot, linear, metrics, scores
from fungi_audio.files import features

SETTINGS: dict[str, Any] = {
    "pca": None,
    "knn": {"k": [1, 5], "votes": ["uniform", "cosine"], "temperature": 0.07},
    "linear": {"l2": {"values": 10, "from": -8, "to": 0}},
    "few_shot": {"shots": [1, 3], "draws": 2},
}


@pytest.fixture(autouse=True)
def warn_again() -> None:
    blocks.warn_once.cache_clear()


def write_block(path: Path, clips: pd.DataFrame, x: np.ndarray, name: str, **settings: Any) -> list[Path]:
    metadata = {"dataset": "demo", "backbone": "tiny", "feature": name, "settings": settings}
    features.write(path, clips, x, metadata)
    return [path]


def table(labels: list[str], fold: list[Any], split: list[Any]) -> pd.DataFrame:
    names = [f"clip-{i:03d}.wav" for i in range(len(labels))]
    return pd.DataFrame({"clip_id": names, "label": labels, "fold": fold, "split": split}, dtype=object)


def dataset(n: int = 60, classes: int = 4, folds: int = 3) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Labelled clusters in two noisy blocks of 12 dimensions and very different scales."""
    rng = np.random.default_rng(0)
    target = np.arange(n) % classes
    clips = table([f"class {t}" for t in target], (1 + np.arange(n) // classes % folds).tolist(), [None] * n)
    x = {
        name: (rng.normal(size=(classes, 12))[target] + rng.normal(size=(n, 12))) * scale
        for name, scale in [("embedding", 1.0), ("kl", 1e-8)]
    }
    return clips, x


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, list[Path]]:
    clips, x = dataset()
    return {name: write_block(tmp_path / f"{name}.parquet", clips, block, name) for name, block in x.items()}


def test_blocks_count_equally_whatever_their_scale() -> None:
    _, x = dataset()
    joined = blocks.concatenate([x["embedding"].astype(np.float32), x["kl"].astype(np.float32)])
    np.testing.assert_allclose(np.linalg.norm(joined[:, :12], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(joined[:, 12:], axis=1), 1, rtol=1e-6)
    assert not blocks.concatenate([np.zeros((2, 3), dtype=np.float32)]).any()


@pytest.mark.parametrize(("n", "width"), [(40, 90), (90, 40), (5000, 8)])
def test_pca_equals_scikit_learn(n: int, width: int) -> None:
    x = (np.random.default_rng(0).normal(size=(n + 10, width)) * np.arange(1, width + 1) + 3).astype(np.float32)
    rows = np.arange(5, n + 5)
    ours, reference = blocks.pca(x, rows, 6), PCA(6, svd_solver="full").fit(x[rows].astype(np.float64))
    assert ours is not None
    np.testing.assert_allclose(ours.variance, reference.explained_variance_, rtol=1e-4)
    expected = reference.transform(x.astype(np.float64))
    signs = np.sign((ours(x) * expected).sum(axis=0))
    np.testing.assert_allclose(ours(x) * signs, expected, atol=1e-4 * np.abs(expected).max())
    assert ours(x).dtype == np.float32


def test_pca_is_skipped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    x = np.ones((10, 8), dtype=np.float32)
    assert blocks.pca(x, np.arange(10), 8) is None
    assert blocks.pca(x, np.arange(6), 7) is None
    assert "PCA to 7 dimensions skipped: 6 training clips of 8 dimensions" in caplog.text
    caplog.clear()
    assert blocks.pca(x, np.arange(6), 7) is None
    assert blocks.pca(x, np.arange(6), 0) is None
    assert not caplog.text


def test_draws_take_the_asked_number_of_every_class() -> None:
    targets = np.eye(3, dtype=bool)[np.array([0] * 10 + [1] * 2 + [2] * 10)]
    rows = few_shot.draw(targets, 4, seed=5)
    assert targets[rows].sum(axis=0).tolist() == [4, 2, 4]
    assert np.array_equal(rows, few_shot.draw(targets, 4, seed=5))
    assert not np.array_equal(rows, few_shot.draw(targets, 4, seed=6))


def test_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    votes, labels = rng.random((50, 4)), rng.integers(0, 3, 50)
    targets, predicted = np.eye(4, dtype=bool)[labels], votes.argmax(axis=1)
    assert metrics.accuracy(votes, targets) == np.mean(predicted == labels)
    recall = recall_score(labels, predicted, labels=[0, 1, 2], average="macro")
    assert metrics.per_class_accuracy(votes, targets) == pytest.approx(recall)
    targets = rng.random((50, 4)) < 0.3
    targets[:, 3] = False
    expected = average_precision_score(targets[:, :3], votes[:, :3]), roc_auc_score(targets[:, :3], votes[:, :3])
    assert metrics.mean_average_precision(votes, targets) == pytest.approx(expected[0])
    assert metrics.macro_auc(votes, targets) == pytest.approx(expected[1])
    assert np.isnan(metrics.macro_auc(votes, np.ones_like(targets)))


def test_every_protocol_is_scored(parts: dict[str, list[Path]]) -> None:
    found, _ = scores.evaluate(parts, "2", SETTINGS, seed=42)
    assert found.columns.tolist() == scores.SCORES
    assert set(found["features"]) == {"embedding+kl"} and set(found["dataset"]) == {"demo"}
    accuracy = found[found["metric"] == "accuracy"]
    full = accuracy[accuracy["shots"] == 0]
    assert (full["protocol"] + full["chosen"].where(full["protocol"] != "linear", "")).tolist() == [
        'knn{"k": 1}', 'knn{"k": 5}', 'knn-cosine{"k": 1}', 'knn-cosine{"k": 5}', "linear",
    ]  # fmt: skip
    assert full["value"].min() > 0.6
    assert set(full["n_train"]) == {40} and set(full["n_test"]) == {20}
    assert set(accuracy.loc[accuracy["shots"] == 3, "n_train"]) == {12}
    assert set(accuracy["seed"]) == {0, 1}
    one_shot = accuracy[accuracy["shots"] == 1]
    assert set(one_shot.loc[one_shot["protocol"] == "knn", "chosen"]) == {'{"k": 1}'}, "k = 5 needs five clips"


def test_predictions_give_the_scores(parts: dict[str, list[Path]]) -> None:
    found, predictions = scores.evaluate(parts, "1", SETTINGS, seed=42)
    assert predictions.columns.tolist() == scores.PREDICTIONS
    run = ["protocol", "shots", "seed", "chosen"]
    hits = predictions.assign(hit=predictions["true"].astype(str) == predictions["predicted"].astype(str))
    by_run = hits.groupby(run, observed=True)["hit"].mean()
    wide = found.pivot(index=run, columns="metric", values="value")
    assert len(by_run) == len(wide)
    for key, row in wide.iterrows():
        assert by_run[key] == pytest.approx(row["accuracy"])
        rows = hits.set_index(run).loc[key]
        recall = balanced_accuracy_score(rows["true"].astype(str), rows["predicted"].astype(str))
        assert recall == pytest.approx(row["per_class_accuracy"])


def test_same_seed_same_bytes(parts: dict[str, list[Path]], tmp_path: Path) -> None:
    written = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        paths = str(tmp_path / f"{name}.csv"), str(tmp_path / f"{name}.predictions.parquet")
        scores.write(*scores.evaluate(parts, "1", SETTINGS, seed), *paths)
        written.append([Path(path).read_bytes() for path in paths])
    assert written[0] == written[1] != written[2]


def test_every_combination_gets_the_same_draws(parts: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    original = few_shot.draw

    def recorded(*arguments: Any) -> np.ndarray:
        drawn.append(original(*arguments).tolist())
        return np.array(drawn[-1])

    monkeypatch.setattr("fungi_audio.evaluate.protocols.draw", recorded)
    scores.evaluate({"kl": parts["kl"]}, "1", SETTINGS, seed=42)
    scores.evaluate(parts, "1", SETTINGS, seed=42)
    assert drawn[:4] == drawn[4:]
    assert len({tuple(rows) for rows in drawn}) == 4


def test_an_official_split(tmp_path: Path) -> None:
    """The penalty is chosen on the validation clips; the final probe sees them, few-shot probes do not."""
    clips, x = dataset()
    clips = clips.assign(fold=None, split=["train"] * 36 + ["valid"] * 12 + ["test"] * 12)
    found, _ = scores.evaluate(
        {"kl": write_block(tmp_path / "kl.parquet", clips, x["kl"], "kl")}, "split", SETTINGS, seed=1
    )
    sizes = found.drop_duplicates(["protocol", "shots"]).set_index(["protocol", "shots"])["n_train"]
    assert sizes["knn", 0] == 36 and sizes["linear", 0] == 48 and sizes["linear", 3] == 12
    assert set(found["n_test"]) == {12}


def test_several_labels_a_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((80, 3)) < 0.4
    truth[:, 0] |= ~truth.any(axis=1)
    names = np.array(["bird", "rain", "wind"])
    clips = table([";".join(names[row]) for row in truth], [1, 2] * 40, [None] * 80)
    x = truth @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(80, 8))
    parts = {"embedding": write_block(tmp_path / "e.parquet", clips, x, "embedding")}
    found, predictions = scores.evaluate(parts, "1", SETTINGS, seed=1, multilabel=True)
    assert set(found["metric"]) == {"mAP", "auc"}
    full = found[(found["shots"] == 0) & (found["metric"] == "mAP")].set_index(["protocol", "chosen"])["value"]
    assert full["knn", '{"k": 5}'] > 0.8 and full["linear"].iloc[0] > 0.8
    labels = {label for text in predictions["predicted"].unique() for label in text.split(";") if label}
    assert labels == set(names)


def test_a_fifth_is_held_out_where_every_clip_has_its_own_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = []
    holdout = linear.holdout
    monkeypatch.setattr(linear, "holdout", lambda *args: held_out.append(holdout(*args)) or holdout(*args))
    labels = [";".join(f"label {bit}" for bit in range(8) if number >> bit & 1) for number in range(1, 101)]
    clips = table(labels, [1, 2] * 50, [None] * 100)
    parts = {
        "embedding": write_block(tmp_path / "e.parquet", clips, np.random.default_rng(0).normal(size=(100, 8)), "e")
    }
    scores.evaluate(parts, "1", SETTINGS | {"few_shot": {"shots": [], "draws": 1}}, seed=1, multilabel=True)
    ((fitted, validated),) = held_out
    assert (len(fitted), len(validated)) == (40, 10)
    assert "no clip to validate on" not in caplog.text


def test_a_class_with_a_single_clip(tmp_path: Path) -> None:
    clips, x = dataset()
    clips.loc[0, "label"] = "hapax"
    parts = {"kl": write_block(tmp_path / "kl.parquet", clips, x["kl"], "kl")}
    for fold in ("1", "2"):
        found, _ = scores.evaluate(parts, fold, SETTINGS, seed=1)
        assert found["value"].notna().all()


def test_classes_without_training_clips_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips, x = dataset()
    clips.loc[0, "label"] = "hapax"
    scores.evaluate({"kl": write_block(tmp_path / "kl.parquet", clips, x["kl"], "kl")}, "1", SETTINGS, seed=1)
    assert "1 classes of the test clips have no training clip" in caplog.text


def test_the_chosen_penalty_at_the_edge_is_reported(
    parts: dict[str, list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    narrow = {**SETTINGS, "linear": {"l2": {"values": 2, "from": 0, "to": 3}}}
    with caplog.at_level(logging.WARNING):
        found, _ = scores.evaluate(parts, "1", narrow, seed=1)
    chosen = [json.loads(text) for text in found.loc[found["protocol"] == "linear", "chosen"]]
    assert any(choice["at_edge"] for choice in chosen)
    assert "widen evaluation.linear.l2" in caplog.text


def test_mistakes(parts: dict[str, list[Path]], tmp_path: Path) -> None:
    large = {**SETTINGS, "knn": {**SETTINGS["knn"], "k": [5, 100]}}
    with pytest.raises(ConfigError, match="asks for 100 neighbours, but the fold has only 40 training clips"):
        scores.evaluate(parts, "1", large, seed=1)
    with pytest.raises(DataError, match="fold 9 has no test clips"):
        scores.evaluate(parts, "9", SETTINGS, seed=1)
    clips, x = dataset()
    clips.loc[3, "label"] = None
    unlabelled = {"kl": write_block(tmp_path / "none.parquet", clips, x["kl"], "kl")}
    with pytest.raises(DataError, match=r"1 clips have no label, for example clip-003\.wav"):
        scores.evaluate(unlabelled, "1", SETTINGS, seed=1)


def test_starting_is_light() -> None:
    """Dozens of evaluation jobs start in one run; torch and scikit-learn take seconds to import."""
    code = "import sys, fungi_audio.evaluate.scores; print(*{'torch', 'sklearn', 'timm'} & sys.modules.keys())"
    scripts = Path(__file__).parents[2] / "scripts"
    result = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
