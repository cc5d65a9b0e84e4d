"""The whole chain on small synthetic data, and what a rerun redoes after each kind of edit."""

import copy
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import save_file

from fungi_audio.files.whole import sha256
from fungi_audio.models.ssast.network import random_state
from tests.tools.workflow import ROOT, Workflow

pytestmark = pytest.mark.xdist_group("workflow")

CONFIG = {
    "run": {"datasets": ["tones"], "backbones": ["tiny"], "features": ["embedding", "kl", "simclr"]},
    "datasets": {"tones": {"layout": "synthetic", "clips": 40, "folds": [1, 2], "target_length": 64, "shards": 2}},
    "backbones": {"tiny": {"family": "ssast", "checkpoint": "random:tiny-patch"}},
    "features": {"simclr": {"views": 2, "comparison_clips": 4}},
    "evaluation": {"knn": {"k": [3]}, "linear": {"l2": {"values": 3}}, "few_shot": {"shots": [2], "draws": 2}},
}
COMBINATIONS = 7


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("finished"), CONFIG)
    workflow.run()
    return workflow


@pytest.fixture
def edited(finished):
    """The finished run with an edited configuration."""

    def edit(change) -> dict[str, int]:
        config = copy.deepcopy(CONFIG)
        change(config)
        return Workflow(finished.folder, config).planned()

    return edit


def evaluation(jobs: dict[str, int]) -> dict[str, int]:
    """Jobs without the ones that always follow from a new score."""
    return {rule: count for rule, count in jobs.items() if rule not in ("table", "map", "report")}


def test_table(finished):
    table = pd.read_csv(finished.path("results/table.csv"))
    assert set(table["dataset"]) == {"tones"}
    assert set(table["fold"]) == {1, 2}
    assert table["features"].nunique() == COMBINATIONS
    accuracy = table[(table["metric"] == "accuracy") & (table["shots"] == 0)]
    assert accuracy["value"].between(0, 1).all()
    assert accuracy["value"].mean() > 0.2  # ten classes
    assert "embedding+kl+simclr" in finished.path("results/table.md").read_text()


def test_cost_counts_every_job_from_log_mels_to_features(finished):
    """The columns of a feature in the table are sums over Snakemake's own benchmark files."""
    table = pd.read_csv(finished.path("results/table.csv"))
    found = table[table["features"] == "simclr"].iloc[0]["seconds_per_clip"]
    jobs = ["feature/tones/tiny/simclr", "encode/tones/tiny/views2", "negatives/tones/tiny/4", "head/tiny"]
    folder = finished.path("results/benchmarks")
    files = [path for job in jobs for path in (folder / job).rglob("*.tsv") if path.stem != "kl"]
    files.append(folder / "projection" / "tiny.tsv")
    assert len(files) == 4 + 2 + 2 + 1 + 1
    assert found * 40 == pytest.approx(sum(pd.read_csv(path, sep="\t")["s"].sum() for path in files), rel=1e-4)


def test_datafiles(finished):
    files = sorted(path.name for path in finished.path("results/tones/datafiles").iterdir())
    assert files == ["1_eval.json", "1_train.json", "2_eval.json", "2_train.json"]
    data = json.loads(finished.path("results/tones/datafiles/1_eval.json").read_text())["data"]
    assert all((finished.folder / clip["wav"]).is_file() for clip in data)


def test_snakemakes_own_report(finished):
    finished.run("--report", "report.zip")
    with zipfile.ZipFile(finished.path("report.zip")) as packed:
        shown = [Path(name).name for name in packed.namelist()]
        page = packed.read("report/report.html").decode()
    assert {"table.csv", "table.md", "table.tex", "comparisons.csv", "report.html"} < set(shown)
    assert {"answer.txt", "folds.txt", "skipped.csv", "classes.csv", "clips.parquet", "tiny.parquet"} < set(shown)
    assert shown.count("1.csv") == shown.count("1.predictions.parquet") == COMBINATIONS
    assert all(text in page for text in ("Scores by fold", "Tables", "Maps", "Data", "embedding+kl+simclr"))


def test_second_run_does_nothing(finished):
    assert finished.planned() == {}


def test_evaluation_edit(edited):
    jobs = edited(lambda config: config["evaluation"]["knn"].update(k=[1, 3]))
    assert evaluation(jobs) == {"plan": 1, "evaluate": 2 * COMBINATIONS}


def test_simclr_temperature(edited):
    jobs = edited(lambda config: config["features"]["simclr"].update(temperature=0.1))
    assert evaluation(jobs) == {"feature": 4, "evaluate": 8}


def test_new_fold(edited):
    jobs = edited(lambda config: config["datasets"]["tones"].update(folds=[1, 2, 3]))
    assert evaluation(jobs) == {"plan": 1, "datafiles": 1, "negatives": 1, "feature": 2, "evaluate": COMBINATIONS}


def test_new_objective(edited):
    def add(config):
        config["features"]["kl-1"] = {"objective": "kl", "temperature": 1}
        config["run"]["features"].append("kl-1")

    assert evaluation(edited(add)) == {"feature": 2, "evaluate": 2 * (COMBINATIONS + 1)}


def test_new_backbone(edited):
    def add(config):
        config["backbones"]["frame"] = {"family": "ssast", "checkpoint": "random:tiny-frame"}
        config["run"]["backbones"].append("frame")

    jobs = evaluation(edited(add))
    assert jobs == {
        "random_checkpoint": 1,
        "projection": 1,
        "head": 2,
        "encode": 4,
        "negatives": 2,
        "feature": 8,
        "evaluate": 2 * COMBINATIONS,
    }


def test_gradient_tokens(edited):
    """The stored activations hold both special tokens."""
    jobs = edited(lambda config: config["backbones"]["tiny"].update(gradient_tokens="all"))
    assert evaluation(jobs) == {"feature": 8, "evaluate": 2 * COMBINATIONS}


def test_allow_http(edited):
    assert evaluation(edited(lambda config: config.update(allow_http=True))) == {}


def test_pinning_a_checkpoint_checks_it_and_nothing_else(tmp_path):
    checkpoint = tmp_path / "mine.safetensors"
    save_file(random_state("tiny-patch", 0), checkpoint)
    targets = ["results/checkpoints/tiny.sha256", "results/projections/tiny.safetensors"]

    def pinned(digest: str | None) -> Workflow:
        backbone = {"family": "ssast", "checkpoint": str(checkpoint), "sha256": digest}
        return Workflow(tmp_path / "run", CONFIG | {"backbones": {"tiny": backbone}})

    pinned(None).run(*targets)
    done = pinned("0" * 64).snakemake(*targets, check=False)
    assert done.returncode and f"expected {'0' * 64}" in done.stdout
    assert pinned(sha256(checkpoint)).planned(*targets) == {"checkpoint_checksum": 1}


def test_new_dataset(edited):
    def add(config):
        config["datasets"]["more"] = {**CONFIG["datasets"]["tones"], "clips": 50}
        config["run"]["datasets"].append("more")

    jobs = evaluation(edited(add))
    assert not {"projection", "head", "random_checkpoint"} & jobs.keys()
    assert jobs["encode"] == 4


def test_data_root(edited, tmp_path):
    """Moving the audio rewrites the datafiles and neither resamples nor extracts."""
    jobs = edited(lambda config: config.update(data_root=str(tmp_path)))
    assert jobs == {"place": 1, "datafiles": 2}


def test_two_edits_at_once(edited, tmp_path):
    """What an edit asks for does not hide behind another edit (Snakemake does that behind `ancient` inputs)."""

    def both(config):
        config.update(data_root=str(tmp_path))
        config["evaluation"]["knn"].update(k=[1, 3])

    jobs = edited(both)
    assert evaluation(jobs) == {"place": 1, "datafiles": 2, "plan": 1, "evaluate": 2 * COMBINATIONS}
    assert jobs["report"] == 1


def test_too_many_neighbours_are_refused_before_extraction(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["evaluation"]["knn"]["k"] = [40]
    done = Workflow(tmp_path, config).snakemake(check=False)
    assert done.returncode == 1
    assert "datasets.tones, fold 1: evaluation.knn.k asks for 40 neighbours" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "results/activations").exists()


def test_code_edit_of_an_objective(finished, tmp_path):
    """Editing an objective redoes that objective; a comment changes nothing."""
    project = tmp_path / "project"
    for name in ("Snakefile", "config.yaml", "rules", "scripts", "schemas", "envs", "configs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name)
        else:
            project.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    workflow = Workflow(finished.folder, CONFIG, project)
    objective = project / "scripts/fungi_audio/objectives/kl.py"
    objective.write_text("# a remark\n" + objective.read_text())
    assert workflow.planned() == {}
    objective.write_text(objective.read_text().replace("/ d**2", "/ d"))
    assert evaluation(workflow.planned()) == {"feature": 2, "evaluate": 8}


def test_trace_of_a_row_names_all_that_made_it(finished):
    rows = pd.read_csv(finished.path("results/table.csv"))
    row = rows.index[(rows["features"] == "embedding+simclr") & (rows["fold"] == 2)][0]
    command = [sys.executable, "-m", "fungi_audio.trace", str(finished.path("results/table.csv"))]
    paths = {"PYTHONPATH": str(ROOT / "scripts"), "PATH": os.environ["PATH"]}
    done = subprocess.run([*command, str(row)], capture_output=True, text=True, check=True, env=paths)
    made = yaml.safe_load(done.stdout)
    assert float(made["score"]["value"]) == pytest.approx(rows.loc[row, "value"])
    assert made["seed"] == 42
    rules = [job["rule"] for job in made["jobs"]]
    assert rules[0] == "evaluate" and {"synthesise", "resample", "inputs", "negatives", "head"} < set(rules)
    assert all(len(job["params"]["code"]) == 16 for job in made["jobs"])
    features = finished.path("results/features/tones/tiny/simclr/2/part-0.parquet")
    metadata = json.loads(pq.read_schema(features).metadata[b"fungi_audio"])
    assert made["files"]["results/checkpoints/tiny.safetensors"] == metadata["checkpoint"]
    assert made["made with"][0]["versions"]["torch"] == metadata["versions"]["torch"]
    assert made["made with"][0]["device"] == metadata["device"] == "CPU"
    assert metadata["precision"] == "float32"
    assert made["config"]["datasets"] == {"tones": {**made["config"]["datasets"]["tones"], "clips": 40}}
    refused = subprocess.run([*command, str(len(rows))], capture_output=True, text=True, env=paths)
    assert refused.returncode == 1 and refused.stderr == (
        f"{command[-1]} has the rows 0 to {len(rows) - 1}, no row {len(rows)}\n"
    )
