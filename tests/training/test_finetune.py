"""Fine-tuning learns, selects as it says, stops and goes on bitwise, and its checkpoint holds what is needed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from fungi_audio.errors import CheckpointError, ConfigError, NumericalError
from fungi_audio.evaluate.scores import PREDICTIONS, SCORES
from fungi_audio.models.ssast.network import random_state
from fungi_audio.training import publish, resume, selection
from fungi_audio.training.classifier import Classifier, describe, load_classifier, new_classifier
from fungi_audio.training.definitions import check_finetuning
from fungi_audio.training.distributed import World, launch
from fungi_audio.training.finetune import Clips, Tuned, finetune, predict
from fungi_audio.training.fold import finetune_fold
from fungi_audio.training.labelled import Labelled

HEAD = {"hidden": None, "activation": "relu", "dropout": 0.0}
SETTINGS: dict[str, Any] = {
    "epochs": 3, "batch_size": 6, "lr": 1e-3, "head_lr": 1.0, "warmup_steps": 0, "decay": 0.85, "decay_from": 2,
    "loss": "ce", "freq_mask": 0, "time_mask": 0, "noise": False, "mixup": 0.0, "augment": {}, "balanced": False,
    "pooling": "avg", "layer": 1, "train_backbone": True, "head": HEAD, "selection": "validation", "average_from": 2,
}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_file(random_state("tiny-patch", 0), path)
    return path


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Three classes: each clip is its class's spectrogram and a little noise."""
    random, rows = np.random.default_rng(0), np.arange(36)
    kinds = random.normal(-6, 2, size=(3, 32, 128))
    fbank = (kinds[rows % 3] + random.normal(0, 0.5, size=(36, 32, 128))).astype(np.float32)
    targets = np.eye(3, dtype=bool)[rows % 3]
    return Clips(fbank, [], targets, rows[:18], rows[18:24], rows[24:], (-6.0, 2.0), False)


def model(checkpoint: Path, classes: int = 3, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    return new_classifier(checkpoint, 32, classes, SETTINGS | settings, (16, 16))


def run(checkpoint: Path, clips: Clips, state: Path, **settings: Any) -> Tuned:
    chosen = SETTINGS | settings
    torch.manual_seed(3)
    return finetune(World(), model(checkpoint, **settings), clips, chosen, 1, "digest", state, torch.float32)


def test_learns_and_keeps_the_best_validation_epoch(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    tuned = run(checkpoint, clips, tmp_path / "state.pt", epochs=6)
    valid = {p["epoch"]: p["accuracy"] for p in tuned.curves if p["split"] == "valid"}
    assert len(valid) == 6 and max(valid.values()) > 0.9
    assert tuned.epoch == min(epoch for epoch, value in valid.items() if value == max(valid.values()))
    assert list(tuned.scores) == [tuned.epoch]
    assert not [p for p in tuned.curves if p["split"] == "test"]
    fresh = model(checkpoint)
    fresh.load_state_dict(tuned.state)
    assert torch.equal(predict(fresh, clips.fbank, clips.test, clips.statistics, "ce", 6), tuned.scores[tuned.epoch])
    assert (tuned.scores[tuned.epoch].argmax(1).numpy() == clips.targets[clips.test].argmax(1)).mean() > 0.8


def test_learning_rates(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    """Every point of the curves has the rate that its epoch trained with."""
    for split in ("train", "valid"):
        tuned = run(checkpoint, clips, tmp_path / f"{split}.pt", lr=1e-4)
        rates = [p["lr"] for p in tuned.curves if p["split"] == split]
        assert rates == pytest.approx([1e-4, 0.85e-4, 0.85**2 * 1e-4])
    tuned = run(checkpoint, clips, tmp_path / "warm.pt", lr=1e-4, warmup_steps=9, decay_from=9)
    assert [p["lr"] for p in tuned.curves if p["split"] == "train"] == pytest.approx([0.2e-4, 0.55e-4, 0.85e-4])


@pytest.mark.parametrize(
    "changes", [{}, {"selection": "average"}, {"warmup_steps": 40, "head": HEAD | {"dropout": 0.5}}]
)
def test_a_stopped_run_goes_on_bitwise(
    checkpoint: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = run(checkpoint, clips, tmp_path / "whole.pt", **changes)
    step, calls = torch.optim.Adam.step, []

    def stops(self: Any, closure: Any = None) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(self, closure)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Adam, "step", stops)
        run(checkpoint, clips, tmp_path / "state.pt", **changes)
    continued = run(checkpoint, clips, tmp_path / "state.pt", **changes)
    assert continued.curves == whole.curves and continued.epoch == whole.epoch
    assert all(torch.equal(continued.state[key], whole.state[key]) for key in whole.state)
    assert torch.equal(continued.scores[whole.epoch], whole.scores[whole.epoch])


def test_a_frozen_backbone_stays(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    before = model(checkpoint).state_dict()
    tuned = run(checkpoint, clips, tmp_path / "state.pt", train_backbone=False, head_lr=10.0)
    for key, value in tuned.state.items():
        assert torch.equal(value, before[key]) == key.startswith("v."), key


def test_a_weighted_sum_learns_its_weights(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    tuned = run(checkpoint, clips, tmp_path / "state.pt", epochs=1, layer="weighted")
    weights = tuned.state["layer_weights"]
    assert len(weights) == 12 and len(weights.unique()) > 1
    network = model(checkpoint, layer="weighted")
    fbank = torch.randn(2, 32, 128)
    assert network.layer_weights is not None
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.0, 1e4] + [0.0] * 10))
        assert torch.allclose(network.embed(fbank), model(checkpoint).embed(fbank), atol=1e-5)


def test_the_average_of_the_last_epochs(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    tuned = run(checkpoint, clips, tmp_path / "state.pt", selection="average", average_from=2)
    epochs = [run(checkpoint, clips, tmp_path / f"{n}.pt", selection="test", epochs=n).state for n in (2, 3)]
    key = "v.blocks.0.attn.qkv.weight"
    assert torch.allclose(tuned.state[key], (epochs[0][key] + epochs[1][key]) / 2, atol=1e-6)


def test_the_published_rule_sees_every_epoch(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    tuned = run(checkpoint, clips, tmp_path / "state.pt", selection="test")
    assert list(tuned.scores) == [1, 2, 3]
    assert len([p for p in tuned.curves if p["split"] == "test"]) == 3
    right, wrong = np.eye(2), 1 - np.eye(2)
    scores = {"1": {1: right, 2: right, 3: wrong}, "2": {1: wrong, 2: right, 3: right}}
    assert selection.choose(scores, {"1": np.eye(2, dtype=bool), "2": np.eye(2, dtype=bool)}, False) == 2


@pytest.mark.parametrize("multilabel", [False, True])
def test_rows_of_the_table(multilabel: bool) -> None:
    scores = np.array([[0.9, 0.2], [0.6, 0.7], [0.8, 0.1]])
    targets = np.array([[True, False], [False, True], [False, True]])
    clips = pd.DataFrame({"clip_id": ["a", "b", "c"], "label": ["x", "y", "y"]}, index=[3, 5, 8])
    where = {"dataset": "d", "backbone": "b", "features": "finetuned", "protocol": "finetune", "fold": "1", "seed": 0}
    where |= {"n_train": 9, "settings": {"lr": 1}}
    rows, table = selection.tables(scores, targets, clips, ["x", "y"], multilabel, where, {"epoch": 2})
    assert rows.columns.tolist() == SCORES and table.columns.tolist() == PREDICTIONS
    values = dict(zip(rows["metric"], rows["value"], strict=True))
    if multilabel:
        assert table["predicted"].tolist() == ["x", "x;y", "x"] and set(values) == {"mAP", "auc"}
    else:
        assert table["predicted"].tolist() == ["x", "y", "x"]
        assert values == {"accuracy": pytest.approx(2 / 3), "per_class_accuracy": pytest.approx(0.75)}


def test_several_labels_need_bce(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    several = Clips(**(vars(clips) | {"multilabel": True}))
    with pytest.raises(ConfigError, match="set loss: bce"):
        check_finetuning(SETTINGS, True, 1)
    tuned = run(checkpoint, several, tmp_path / "state.pt", loss="bce", epochs=1)
    assert "mAP" in tuned.curves[-1] and float(tuned.scores[1].max()) <= 1


@pytest.fixture
def data(clips: Clips, tmp_path: Path) -> Labelled:
    """The same clips as files."""
    np.save(tmp_path / "fbank.npy", clips.fbank)
    split = ["train"] * 18 + ["valid"] * 6 + ["test"] * 12
    labels = np.array(["a", "b", "c"])[clips.targets.argmax(1)]
    names = [f"{row:02}" for row in range(36)]
    table = pd.DataFrame({"clip_id": names, "wav": names, "label": labels, "fold": None, "split": split})
    return Labelled(table, ["a", "b", "c"], tmp_path / "fbank.npy", tmp_path, "split", clips.statistics, False)


@pytest.mark.parametrize("changes", [{"batch_size": 17}, {"batch_size": 16, "layer": "weighted", "loss": "bce"}])
def test_two_processes_equal_one(checkpoint: Path, data: Labelled, tmp_path: Path, changes: dict[str, Any]) -> None:
    """24 clips to train on: of batches of 17 and 7, and of 16 and 8."""
    settings = SETTINGS | {"freq_mask": 20, "noise": True, "selection": "test", "lr": 1e-4} | changes
    alone, both = (
        launch([CPU] * size, finetune_fold, data, checkpoint, (16, 16), settings, "name", 1, tmp_path / f"{size}.pt",
               "fp32", 0)[0]
        for size in (1, 2)
    )  # fmt: skip
    for epoch, scores in alone.scores.items():
        assert torch.allclose(both.scores[epoch], scores, atol=2e-3)
    assert [p.get("loss", 0) for p in both.curves] == pytest.approx([p.get("loss", 0) for p in alone.curves], 1e-3)
    for key, value in alone.state.items():
        assert torch.allclose(both.state[key], value, atol=5e-4), key


def test_two_stopped_processes_go_on(
    checkpoint: Path, data: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 clips in batches of 17 and 1: the second process has none of the last. Its dropout goes on as well."""
    settings = SETTINGS | {"batch_size": 17, "head": HEAD | {"dropout": 0.5}}

    def both(state: Path) -> Tuned:
        return launch([CPU] * 2, finetune_fold, data, checkpoint, (16, 16), settings, "name", 1, state, "fp32", 0)[0]

    save = resume.save

    def stops(path: Path, configuration: dict[str, Any], state: dict[str, Any]) -> None:
        save(path, configuration, state)
        raise KeyboardInterrupt

    whole = both(tmp_path / "whole.pt")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resume, "save", stops)
        both(tmp_path / "state.pt")
    continued = both(tmp_path / "state.pt")
    assert continued.curves == whole.curves
    assert all(torch.equal(continued.state[key], whole.state[key]) for key in whole.state)


def test_a_state_of_another_backbone_input_or_data(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run(checkpoint, clips, state, epochs=1)
    kept = state.read_bytes()
    same = model(checkpoint)
    others = [
        ("checkpoint was 'digest' and is 'other'", same, clips, "other"),
        (r"stride was \[16, 16\] and", new_classifier(checkpoint, 32, 3, SETTINGS, None), clips, "digest"),
        ("frames was 32 and is 64", new_classifier(checkpoint, 64, 3, SETTINGS, (16, 16)), clips, "digest"),
        ("statistics was", same, replace(clips, statistics=(-5.0, 2.0)), "digest"),
        ("labels and rows was", same, replace(clips, test=clips.test[1:]), "digest"),
    ]
    for message, network, data, digest in others:
        with pytest.raises(ConfigError, match=message):
            finetune(World(), network, data, SETTINGS | {"epochs": 1}, 1, digest, state, torch.float32)
    assert state.read_bytes() == kept


@pytest.mark.parametrize("selection", ["average", "validation", "test"])
def test_scores_that_are_not_numbers_are_never_kept(
    checkpoint: Path, clips: Clips, tmp_path: Path, selection: str
) -> None:
    """One step at an absurd rate: its loss, of the weights before it, is finite, and so are the weights after it."""
    state, data = tmp_path / "state.pt", clips if selection == "validation" else replace(clips, valid=clips.valid[:0])
    with pytest.raises(NumericalError, match="became NaN or infinite in epoch 1; the last good state stays"):
        run(checkpoint, data, state, epochs=1, batch_size=18, lr=1e20, selection=selection, average_from=1)
    assert not state.exists()


def test_one_class(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    alone = replace(clips, targets=np.ones((36, 1), dtype=bool))
    tuned = finetune(World(), model(checkpoint, 1), alone, SETTINGS, 1, "digest", tmp_path / "s.pt", torch.float32)
    assert tuned.epoch == 1 and tuned.scores[1].unique().tolist() == [1]


def test_nan_and_foreign_states(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run(checkpoint, clips, state, epochs=1)
    kept = state.read_bytes()
    with pytest.raises(ConfigError, match=r"lr was 0\.001 and is 0\.1"):
        run(checkpoint, clips, state, epochs=1, lr=0.1)
    broken = Clips(**(vars(clips) | {"fbank": np.full_like(clips.fbank, np.nan)}))
    with pytest.raises(NumericalError, match="epoch 1"):
        run(checkpoint, broken, tmp_path / "none.pt")
    assert state.read_bytes() == kept


@pytest.mark.parametrize(
    "changes", [{}, {"layer": "weighted", "head": {"hidden": 32, "activation": "gelu", "dropout": 0.1}}]
)
def test_a_checkpoint_is_used_without_its_configuration(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    network = model(checkpoint, **changes).eval()
    path = tmp_path / "model.safetensors"
    metadata = {"network": describe(network, (SETTINGS | changes)["head"]), "classes": ["a", "b", "c"], "mean": -6.0}
    publish.write_safetensors(path, network.state_dict(), metadata)
    again, found = load_classifier(path)
    fbank = torch.randn(2, 32, 128)
    assert torch.equal(again(fbank), network(fbank)) and found["mean"] == -6.0
    with pytest.raises(CheckpointError, match="not a checkpoint of this project's fine-tuning"):
        load_classifier(checkpoint)


LIES: dict[str, Any] = {
    "depth": 10_000,
    "width": 1 << 20,
    "frames": 1 << 40,
    "stride": [0, 0],
    "patch": [16],
    "head": {"hidden": 1 << 30, "activation": "relu", "dropout": 0.0},
    "weighted": True,
}


@pytest.mark.fault("checkpoint", "fine-tuned weights whose metadata lies about {lie}", "refused before memory is taken")
@pytest.mark.parametrize("lie", [*LIES, "dropout"])
def test_metadata_that_lies(checkpoint: Path, tmp_path: Path, lie: str) -> None:
    network = model(checkpoint)
    head = {"hidden": None, "activation": "relu", "dropout": 5.0 if lie == "dropout" else 0.0}
    described = describe(network, head) | ({lie: LIES[lie]} if lie in LIES else {})
    path = tmp_path / "model.safetensors"
    publish.write_safetensors(path, network.state_dict(), {"network": described, "classes": ["a", "b", "c"]})
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a checkpoint of this project's fine-tuning"):
        load_classifier(path)
