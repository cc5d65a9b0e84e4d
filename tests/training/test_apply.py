"""Trained models used elsewhere: embeddings of any layer, other datasets; and the files that training leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from fungi_audio.errors import CheckpointError, ConfigError, DataError
from fungi_audio.files import features
from fungi_audio.frontends import kaldi
from fungi_audio.models import checkpoints
from fungi_audio.models.base import Inputs
from fungi_audio.models.ssast.network import build, random_state
from fungi_audio.models.ssast.pretext import new_pretext
from fungi_audio.training import apply, publish
from fungi_audio.training.classifier import describe, new_classifier

HEAD = {"hidden": 32, "activation": "relu", "dropout": 0.0}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fbank() -> np.ndarray:
    return np.random.default_rng(0).normal(-6, 2, size=(5, 32, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "frozen.pth"
    publish.write_pth(path, random_state("tiny-patch", 0))
    return path


@pytest.fixture(scope="module")
def tuned(frozen: Path) -> Path:
    settings: dict[str, Any] = {"pooling": "cls", "layer": "weighted", "head": HEAD}
    classifier = new_classifier(frozen, 32, 3, settings, (16, 16))
    metadata = {"network": describe(classifier, HEAD), "classes": ["x", "y", "z"], "mean": -5.0, "std": 3.0}
    path = frozen.with_name("tuned.safetensors")
    publish.write_safetensors(path, classifier.state_dict(), metadata)
    return path


def embedded(
    model: apply.Model, fbank: np.ndarray, layer: int | str = -1, tokens: bool = False, **more: Any
) -> np.ndarray:
    return np.concatenate([part for _, part in apply.embeddings(model, fbank, layer, tokens, CPU, **more)])


def test_layers_and_tokens_of_a_backbone(frozen: Path, fbank: np.ndarray) -> None:
    model = apply.open_model(frozen, 32, (-6.0, 2.0), stride=(16, 16))
    inputs = kaldi.normalise(torch.from_numpy(fbank), -6.0, 2.0)
    for layer in (3, -1):
        network = build(
            checkpoints.load(frozen).state, 32, stride=(16, 16), pooling="avg", gradient_tokens="all", layer=layer
        )
        expected = network.embedding(Inputs.alike(inputs)).numpy()
        assert np.allclose(embedded(model, fbank, layer), expected, atol=1e-4)
    tokens = embedded(model, fbank, tokens=True)
    assert tokens.shape == (5, 16 * 192)
    assert np.allclose(tokens.reshape(5, 16, 192).mean(1), embedded(model, fbank), atol=1e-5)


def test_parts_are_small_and_complete(frozen: Path, fbank: np.ndarray, tmp_path: Path) -> None:
    many = np.tile(fbank, (8, 1, 1))
    model = apply.open_model(frozen, 32, (-6.0, 2.0), stride=(16, 16))
    parts = list(apply.embeddings(model, many, 0, False, CPU, largest=16 * 192 * 4))
    assert [first for first, _ in parts] == [0, 16, 32]
    for number, (first, part) in enumerate(parts):
        names = [f"{first + i:02d}" for i in range(len(part))]
        clips = pd.DataFrame({"clip_id": names, "label": "", "fold": None, "split": None})
        features.write(tmp_path / f"part-{number}.parquet", clips, part, {})
    clips, whole, _ = features.read(tmp_path)
    assert clips["fold"].isna().all() and np.allclose(whole, embedded(model, many, 0))


def test_a_fine_tuned_model_brings_all_it_needs(tuned: Path, fbank: np.ndarray) -> None:
    model = apply.open_model(tuned, 999, None)
    assert model.statistics == (-5.0, 3.0) and model.network.frames == 32 and model.network.pooling == "cls"
    assert embedded(model, fbank, "head").shape == (5, 32) and embedded(model, fbank, "head").min() >= 0
    assert not np.allclose(embedded(model, fbank, "weighted"), embedded(model, fbank), atol=1e-3)


@pytest.mark.parametrize(("layer", "message"), [("head", "none"), ("weighted", "fine-tuned with"), (12, "12 blocks")])
def test_layers_that_a_backbone_lacks(frozen: Path, fbank: np.ndarray, layer: int | str, message: str) -> None:
    model = apply.open_model(frozen, 32, (-6.0, 2.0))
    with pytest.raises(ConfigError, match=message):
        embedded(model, fbank, layer)


def test_a_file_that_is_not_fine_tuned(frozen: Path) -> None:
    with pytest.raises(CheckpointError, match="statistics are not known"):
        apply.open_model(frozen, 32, None)


def test_log_mels_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=8000), 16_000)
    with apply.log_mels([path, path], 40, 1) as found:
        assert np.array_equal(found[1], kaldi.Fbank(40).read(path).numpy())


def test_another_dataset_is_matched_by_names(tuned: Path, fbank: np.ndarray) -> None:
    table = pd.DataFrame({"label": ["y", "other", "x", "y", "x"], "fold": [1, 1, 1, 1, 2], "split": None})
    shared = apply.shared_clips(table, ["x", "y", "z"], "1", multilabel=False)
    assert shared.rows.tolist() == [0, 2, 3] and shared.classes == ["x", "y"] and shared.columns == [0, 1]
    assert shared.targets.tolist() == [[False, True], [True, False], [False, True]]
    scores = apply.scores_of(apply.open_model(tuned, 0, None), fbank[shared.rows], shared, "ce", CPU)
    assert scores.shape == (3, 2) and (scores.sum(1) < 1).all()
    several = apply.shared_clips(table.assign(label=["y;q", "q", "x;y", "y", "x"]), ["x", "y"], "1", multilabel=True)
    assert several.rows.tolist() == [0, 2, 3] and several.targets.sum() == 4
    with pytest.raises(DataError, match="no name in common"):
        apply.shared_clips(table, ["dog"], "1", multilabel=False)


def test_pth_is_what_data_parallel_loads(tmp_path: Path) -> None:
    model = new_pretext(192, 128, (128, 2), seed=0)
    path = tmp_path / "checkpoint.pth"
    publish.write_pth(path, model.published_state())
    state = torch.load(path, weights_only=True)
    assert all(key.startswith("module.") for key in state)
    sizes = {key: state.pop(f"module.{key}") for key in ("p_input_fdim", "p_input_tdim")}
    assert {key: value.item() for key, value in sizes.items()} == {"p_input_fdim": 128, "p_input_tdim": 128}
    torch.nn.DataParallel(new_pretext(192, 128, (128, 2), seed=1)).load_state_dict(state)


def test_curves_are_the_same_bytes_again(tmp_path: Path) -> None:
    points = [
        {"step": s, "epoch": s / 9, "split": p, "lr": 0.1, "loss": 1 / s} for s in (1, 2) for p in ("train", "valid")
    ]
    points[0]["accuracy"] = 0.5
    for name in ("a", "b"):
        folder = tmp_path / name
        publish.write_curves(folder / "c.csv", [folder / "c.svg", folder / "c.png"], points, "title")
    for name in ("c.csv", "c.svg", "c.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(pd.read_csv(tmp_path / "a" / "c.csv")) == 4
