"""Training through the real Snakefile: pretrain on two datasets, use the backbone frozen, fine-tune it, apply it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from fungi_audio.files import features
from tests.tools.workflow import Workflow

pytestmark = pytest.mark.xdist_group("training")

TUNING = {"dataset": "tones", "backbone": "mine", "epochs": 2, "batch_size": 8}
CONFIG = {
    "run": {
        "datasets": ["tones"],
        "backbones": ["mine"],
        "features": ["embedding", "mpc"],
        "finetune": ["fair", "published"],
        "transfer": ["elsewhere"],
        "embeddings": ["tokens", "head"],
    },
    "datasets": {
        "tones": {"layout": "synthetic", "clips": 40, "folds": [1, 2], "target_length": 32},
        "again": {"layout": "synthetic", "clips": 20, "folds": [2], "target_length": 48},
        "speech": {"layout": "folder", "source": "LibriSpeech", "target_length": 48},
    },
    "pretrain": {
        "both": {
            "datasets": ["tones", "speech"],
            "size": "tiny",
            "target_length": 48,
            "masked": 12,
            "epochs": 6,
            "batch_size": 4,
            "lr": 0.0005,
            "warmup_steps": 0,
            "validate_every": 20,
            "log_every": 10,
        }
    },
    "backbones": {"mine": {"family": "ssast", "checkpoint": "pretrain:both", "stride": [16, 16]}},
    "features": {"mpc": {"objective": "mpc", "masks": 2, "masked": 0.5}},
    "finetune": {
        "fair": TUNING | {"head": {"hidden": 24}, "layer": "weighted"},
        "published": TUNING | {"selection": "test"},
    },
    "transfer": {"elsewhere": {"checkpoint": "finetune:fair/1", "dataset": "again"}},
    "embeddings": {
        "tokens": {"dataset": "speech", "model": "mine", "layer": 5, "tokens": True},
        "head": {"dataset": "speech", "model": "finetune:fair/1", "layer": "head"},
    },
    "evaluation": {"knn": {"k": [3]}, "linear": {"l2": {"values": 2}}, "few_shot": {"shots": []}},
}
UTTERANCES = ["84/121/84-121-0000.flac", "84/121/84-121-0001.flac", "174/50/174-50-0000.flac"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("training")
    random = np.random.default_rng(0)
    for name in UTTERANCES:
        path = folder / "LibriSpeech" / "dev-clean" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, random.uniform(-0.1, 0.1, 9_000), 16_000)
    workflow = Workflow(folder, CONFIG)
    workflow.snakemake(timeout=1800)
    return workflow


def test_pretraining(finished: Workflow) -> None:
    folder = finished.path("results/pretrain/both")
    state = torch.load(folder / "checkpoint.pth", weights_only=True)
    assert state["module.p_input_tdim"].item() == 48 and "module.mask_embed" in state
    assert {path.suffix for path in folder.glob("c*")} == {".pth", ".safetensors", ".csv", ".svg", ".png"}
    curves = pd.read_csv(folder / "curves.csv")
    losses = curves.loc[curves["split"] == "train", "loss"].tolist()
    assert curves["epoch"].iloc[-1] == pytest.approx(6, abs=0.1) and curves["step"].max() > 60  # both datasets
    assert losses[-1] < 0.9 * losses[0]
    assert not (folder / ".state" / "training.pt").exists()


def test_trained_and_frozen_in_one_table(finished: Workflow) -> None:
    table = pd.read_csv(finished.path("results/table.csv"))
    names = ["embedding", "mpc", "embedding+mpc", "finetune-fair", "finetune-published", "transfer-elsewhere"]
    assert set(names) == set(table["features"])
    tuned = table[table["features"].str.startswith("finetune") & (table["metric"] == "accuracy")]
    assert tuned["value"].between(0, 1).all() and tuned["n_test"].eq(10).all()
    assert tuned.groupby("features")["n_train"].first().to_dict() == {"finetune-fair": 20, "finetune-published": 30}
    chosen = tuned.groupby("features")["chosen"].unique().map(lambda texts: [json.loads(text) for text in texts])
    assert all(choice["selection"] == "best epoch on validation clips" for choice in chosen["finetune-fair"])
    (published,) = chosen["finetune-published"]  # one epoch for all folds
    assert "optimistic" in published["selection"]
    assert "published rule" in finished.path("results/table.md").read_text()


def test_a_fine_tuned_checkpoint_on_another_dataset(finished: Workflow) -> None:
    table = pd.read_csv(finished.path("results/table.csv"))
    (row,) = table[(table["features"] == "transfer-elsewhere") & (table["metric"] == "accuracy")].to_dict("records")
    assert row["dataset"] == "again" and row["n_train"] == 0 and row["fold"] == 2
    assert json.loads(row["settings"])["transfer-elsewhere"]["trained on"] == "tones"


@pytest.mark.parametrize(("name", "width"), [("tokens", 8 * 3 * 192), ("head", 24)])
def test_embeddings_of_clips_without_labels(finished: Workflow, name: str, width: int) -> None:
    clips, values, metadata = features.read(finished.path(f"results/embeddings/{name}"))
    assert sorted(clips["clip_id"]) == sorted(f"dev-clean/{path}" for path in UTTERANCES)
    assert values.shape == (3, width) and np.isfinite(values).all()
    assert metadata["settings"]["layer"] == {"tokens": 5, "head": "head"}[name]


def test_an_edit_redoes_what_it_changes(finished: Workflow) -> None:
    assert finished.planned() == {}
    config = CONFIG | {"finetune": CONFIG["finetune"] | {"published": TUNING | {"selection": "test", "epochs": 3}}}
    jobs = Workflow(Path(finished.folder), config).planned()
    assert jobs["finetune"] == jobs["finetune_scores"] == 2
    assert not {"pretrain", "evaluate", "transfer", "embeddings"} & jobs.keys()
