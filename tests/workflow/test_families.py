"""Backbones of two families on clips of different lengths, in one run of the real Snakefile."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from safetensors.torch import save_file

from fungi_audio.files import features
from fungi_audio.models.atst.network import random_state
from tests.tools.workflow import Workflow

BACKBONES = {
    "ssast": {"family": "ssast", "checkpoint": "random:tiny-patch"},
    "atst": {"family": "atst", "checkpoint": "random:small-frame"},
}


def recordings(folder: Path) -> None:
    """Six clips of 0.5 to 3 s, two classes, two folds."""
    folder.mkdir()
    random, rows = np.random.default_rng(0), []
    for number in range(6):
        samples = 8000 * (number + 1)
        tone = np.sin(2 * np.pi * (300 if number % 2 else 1200) * np.arange(samples) / 16_000)
        soundfile.write(folder / f"{number}.wav", 0.2 * tone + 0.05 * random.normal(size=samples), 16_000)
        rows.append([f"{number}.wav", "low" if number % 2 else "high", 1 + number // 2 % 2])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "fold"], *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    recordings(folder / "recordings")
    return folder


def run_of(folder: Path, **change: Any) -> Workflow:
    run = {"datasets": ["tones"], "backbones": list(BACKBONES), "features": ["embedding", "kl"], "frames": ["atst"]}
    config = {
        "run": run,
        "datasets": {
            "tones": {
                "layout": "csv", "source": str(folder / "recordings"), "folds": [1, 2], "clips": 6, "target_length": 64,
            },
            "unlabelled": {"layout": "folder", "source": str(folder / "recordings"), "clips": 6, "target_length": 64},
        },
        "backbones": BACKBONES,
        "evaluation": {"knn": {"k": [1]}, "few_shot": {"shots": []}},
    }  # fmt: skip
    return Workflow(folder / "run", config | change)


def test_two_families_in_one_table(folder: Path) -> None:
    workflow = run_of(folder)
    workflow.run()
    table = pd.read_csv(workflow.path("results/table.csv"))
    assert set(table["backbone"]) == set(BACKBONES) and set(table["features"]) == {"embedding", "kl", "embedding+kl"}
    where = workflow.path("results/features/tones")
    clips, scenes, metadata = features.read(where / "atst/embedding/all")
    assert scenes.shape == (6, 12 * 384) and metadata["frontend"] == "dbmel" and np.isfinite(scenes).all()
    assert features.read(where / "atst/kl/all")[1].shape == (6, 384)
    frames = pq.read_table(where / "atst/embedding-frames/all/part-0.parquet").to_pandas()
    assert frames["clip_id"].tolist() == clips["clip_id"].tolist()
    assert [len(one) for one in frames["frames"]] == [(8000 * (number + 1) // 160 + 1) // 4 for number in range(6)]
    assert frames["milliseconds"][0].tolist() == [40.0 * step for step in range(12)]
    steps = np.stack(frames["frames"][0])
    assert np.allclose(steps.mean(0), scenes[0], atol=1e-4)
    assert workflow.planned() == {}
    without_labels(workflow)


def without_labels(workflow: Workflow) -> None:
    """The same recordings without labels have the same features, asked for by the names of their files."""
    made = ["ssast/kl/all", "atst/embedding/all"]
    workflow.run(*(f"results/features/unlabelled/{name}/part-0.parquet" for name in made))
    for name in made:
        labelled, expected, _ = features.read(workflow.path(f"results/features/tones/{name}"))
        clips, values, _ = features.read(workflow.path(f"results/features/unlabelled/{name}"))
        assert set(clips["label"]) == {""} and clips["clip_id"].tolist() == labelled["clip_id"].tolist()
        errors = np.linalg.norm(values - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert errors.max() < 1e-5, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": {"atst": BACKBONES["atst"] | {"pooling": "avg"}}}, r"unknown key 'pooling' .*Allowed: .*blocks"),
        (
            {"backbones": {"atst": BACKBONES["atst"] | {"target": "blocks.12.mlp.fc1"}}},
            r"backbones\.atst: target: 'blocks\.12\.mlp\.fc1' is no layer; allowed: attn\.qkv",
        ),
        (
            {"features": {"mpc": {"objective": "mpc"}}, "run": ["mpc"]},
            "backbones.atst is of family atst, which has none",
        ),
        ({"finetune": {"x": {"dataset": "tones", "backbone": "atst"}}}, "atst is of family atst; only ssast"),
        ({"embeddings": {"x": {"dataset": "tones", "model": "atst"}}}, "atst is of family atst; only ssast"),
        ({"datasets": {"tones": {"target_length": None}}}, "has no target_length"),
        ({"backbones": {"ssast": BACKBONES["ssast"] | {"checkpoint": "atst-frame-small"}}}, "write `family: atst`"),
    ],
)
def test_what_a_family_cannot_do_is_told_before_anything_runs(folder: Path, change: Any, message: str) -> None:
    workflow = run_of(folder)
    config = workflow.config
    for section, values in change.items():
        if section == "run":
            config["run"] |= {"features": values, "backbones": ["atst"]}
        elif section == "datasets":
            del config["datasets"]["tones"]["target_length"]
        else:
            config[section] = config.get(section, {}) | values
    for section in ("finetune", "embeddings"):
        if section in change:
            config["run"][section] = ["x"]
    done = Workflow(folder / "refused", config).snakemake("--dry-run", check=False)
    assert done.returncode and re.search(message, done.stdout), done.stdout
    assert not (folder / "refused" / "results").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "ssast"}, r"backbones\.own: .*own\.safetensors is no SSAST or AST.*ATST-Frame.*`family: atst`"),
        ({"family": "atst", "kind": "clip"}, r"backbones\.own: .*is ATST-Frame; write `kind: frame`"),
    ],
)
def test_a_checkpoint_of_another_family_is_told_before_any_data_is_prepared(
    folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    save_file(random_state("small-frame", 1), tmp_path / "own.safetensors")
    workflow = run_of(folder, backbones={"own": change | {"checkpoint": str(tmp_path / "own.safetensors")}})
    workflow.config["run"] |= {"backbones": ["own"], "frames": []}
    done = Workflow(tmp_path / "run", workflow.config).snakemake(check=False)
    assert done.returncode and re.search(message, done.stdout), done.stdout
    assert not (tmp_path / "run" / "results").exists() and not (tmp_path / "run" / "resources").exists()
