"""The results tables: means, comparisons, cost, and what people read."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fungi_audio.evaluate import cost_table, render, scores, table
from fungi_audio.evaluate.statistics import bootstrap, mcnemar
from fungi_audio.files import features
from fungi_audio.training import selection

FEATURES = ("embedding", "simclr")
NAMES = ("embedding", "simclr", "embedding+simclr")
SETTINGS: dict[str, Any] = {
    "pca": None,
    "knn": {"k": [5, 20], "votes": ["uniform"], "temperature": 0.07},
    "linear": {"l2": {"values": 10, "from": -8, "to": 0}},
    "few_shot": {"shots": [2], "draws": 3},
}
SIMCLR = {"loss": "corrected", "temperature": 0.07, "views": 4}


class Run:
    """Scores, predictions and features of a small run, on disk as the rules leave them."""

    def __init__(self, folder: Path, multilabel: bool = False) -> None:
        rng = np.random.default_rng(0)
        target = np.arange(90) % 5
        self.parts = {}
        for name, settings in zip(FEATURES, [{}, SIMCLR], strict=True):
            x = 0.6 * rng.normal(size=(5, 16))[target] + rng.normal(size=(90, 16))
            names = [f"clip-{i:02d}.wav" for i in range(90)]
            metadata = {"dataset": "my_data", "backbone": "tiny", "feature": name, "settings": settings}
            labels = [f"c{t};c{(t + 1) % 5}" if multilabel and i % 3 else f"c{t}" for i, t in enumerate(target)]
            self.parts[name] = [str(folder / f"{name}.parquet")]
            fold = 1 + np.arange(90) // 5 % 3
            clips = pd.DataFrame({"clip_id": names, "label": labels, "fold": fold, "split": None})
            features.write(self.parts[name][0], clips, x, metadata)
        self.scores, self.predictions = [], []
        for name in NAMES:
            for fold in "123":
                parts = {part: self.parts[part] for part in name.split("+")}
                paths = str(folder / f"{name}-{fold}.csv"), str(folder / f"{name}-{fold}.predictions.parquet")
                scores.write(*scores.evaluate(parts, fold, SETTINGS, 42, multilabel), *paths)
                self.scores.append(paths[0])
                self.predictions.append(paths[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def several_labels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("several"), multilabel=True)


def no_costs() -> pd.DataFrame:
    return pd.DataFrame(columns=["dataset", "backbone", "features", *cost_table.COST])


def test_means_and_deviations_over_folds_and_draws() -> None:
    same = {"dataset": "d", "backbone": "b", "features": "kl", "metric": "accuracy", "settings": "{}"}
    knn = {**same, "protocol": "knn", "shots": 0, "seed": 0, "chosen": '{"k": 20}'}
    few = {**same, "protocol": "linear", "shots": 5}
    rows = [{**knn, "fold": "1", "value": 0.5}, {**knn, "fold": "2", "value": 0.7}]
    for fold, seed, value in [("1", 0, 0.1), ("1", 1, 0.3), ("2", 0, 0.5), ("2", 1, 0.9)]:
        rows.append({**few, "fold": fold, "seed": seed, "value": value, "chosen": json.dumps({"l2": value})})
    found = table.summary(pd.DataFrame(rows)).set_index("protocol")
    assert found.loc["knn", ["shots", "k"]].tolist() == [0, 20]
    assert found.loc["knn", "mean"] == pytest.approx(0.6)
    assert found.loc["knn", "std"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert np.isnan(found.loc["knn", "std_draws"])
    assert found.loc["linear", ["shots", "k"]].tolist() == [5, 0]
    assert found.loc["linear", "mean"] == pytest.approx(0.45)
    assert found.loc["linear", "std"] == pytest.approx(np.std([0.2, 0.7], ddof=1))
    assert found.loc["linear", "std_draws"] == pytest.approx(np.std([0.3, 0.6], ddof=1))


def test_comparisons_with_the_embedding(run: Run) -> None:
    long = table.collect(run.scores)
    found = table.comparisons(long, run.predictions, "embedding", seed=42)
    assert found.columns.tolist() == table.COMPARISONS
    assert set(found["features"]) == {"simclr", "embedding+simclr"}
    assert len(found) == 2 * (2 + 1 + 1 + 1), "k = 5, 20, linear; 2 shots: k = 5, linear (k = 20 needs more clips)"
    row = found.set_index(["features", *table.SETTING]).loc[("embedding+simclr", "knn", 0, 5)]
    differences = []
    for fold in range(3):
        right = []
        for first in (6, 0):
            predictions = pd.read_parquet(run.predictions[first + fold])
            chosen = predictions[(predictions["chosen"] == '{"k": 5}') & (predictions["shots"] == 0)]
            right.append(chosen["true"].astype(str).to_numpy() == chosen["predicted"].astype(str).to_numpy())
        differences.append(right[0].astype(float) - right[1])
    value, low, high = bootstrap(differences, seed=0)
    assert row["difference"] == pytest.approx(value)
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.012)
    assert row["mcnemar_p"] == pytest.approx(mcnemar(differences))
    assert row["n_clips"] == 90
    few_shot = found[found["shots"] == 2]
    assert few_shot["low"].notna().all() and few_shot["mcnemar_p"].isna().all()
    assert (found["low"] <= found["difference"]).all() and (found["difference"] <= found["high"]).all()
    again = table.comparisons(long, run.predictions, "embedding", seed=42)
    pd.testing.assert_frame_equal(found, again)


def test_a_fold_without_one_of_the_settings(run: Run, tmp_path: Path) -> None:
    """Few-shot draws of a fold that lacks a class may be too small for a k."""
    long = table.collect(run.scores)
    dropped = (long["fold"] == "1") & (long["shots"] == 2) & (long["chosen"] == '{"k": 5}')
    predictions = []
    for i, path in enumerate(run.predictions):
        rows = pd.read_parquet(path)
        if i % 3 == 0:
            path = str(tmp_path / f"{i}.parquet")
            rows[~((rows["shots"] == 2) & (rows["chosen"] == '{"k": 5}'))].to_parquet(path)
        predictions.append(path)
    found = table.comparisons(long[~dropped], predictions, "embedding", seed=42)
    row = found.set_index(["features", *table.SETTING]).loc[("simclr", "knn", 2, 5)]
    assert row["n_clips"] == 60 and row["low"] <= row["difference"] <= row["high"]


def test_without_an_embedding_there_is_nothing_to_compare(run: Run) -> None:
    found = table.comparisons(table.collect(run.scores), run.predictions, None, seed=42)
    assert found.empty and found.columns.tolist() == table.COMPARISONS


@pytest.mark.fault("metadata", "bad clips are left out (bad_clips: skip)", "counted in the table")
def test_clips_left_out_are_counted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "skipped.csv").write_text('clip_id,reason\na.wav,"is empty, 0 bytes"\nb.wav,has NaN\n')
    long = table.collect(run.scores, {"my_data": tmp_path / "skipped.csv"})
    assert set(long["left_out"]) == {2}
    assert render.notes(long, [], [])[0].startswith("my_data: 2 clips could not be used and were left out")
    assert "left out" not in " ".join(render.notes(table.collect(run.scores), [], []))


def test_the_usual_k_is_no_larger_than_the_shots() -> None:
    ks = [1, 5, 20, 50]
    rows = [{"dataset": "d", "backbone": "b", "protocol": "knn", "shots": s, "k": k} for s in (0, 1, 5, 50) for k in ks]
    rows += [{"dataset": "d", "backbone": "b", "protocol": "linear", "shots": s, "k": 0} for s in (0, 5)]
    found = pd.DataFrame(rows)[lambda table: render.usual(table)]
    assert list(zip(found["shots"], found["k"], strict=True)) == [(0, 20), (1, 1), (5, 5), (50, 20), (0, 0), (5, 0)]


def test_of_two_k_that_are_equally_close_the_smaller_is_usual() -> None:
    ks = [3, 10, 30, 7]
    rows = [{"dataset": "d", "backbone": "b", "protocol": "knn", "shots": s, "k": k} for s in (0, 5) for k in ks]
    found = pd.DataFrame(rows)[lambda table: render.usual(table)]
    assert list(zip(found["shots"], found["k"], strict=True)) == [(0, 10), (5, 3)]


def test_settings_that_are_off_are_not_listed(run: Run) -> None:
    tuned = {
        "lr": 1e-4,
        "mixup": 0,
        "noise": True,
        "head": {"hidden": None, "activation": "relu"},
        "augment": {"speed": 0},
    }
    long = table.collect(run.scores).assign(settings=json.dumps({"tuned": tuned}))
    assert render.notes(long, [], []) == ["Settings of tuned: lr 0.0001, noise, head activation relu."]


def test_markdown(run: Run) -> None:
    long = table.collect(run.scores)
    compared = table.comparisons(long, run.predictions, "embedding", seed=42)
    captions = render.notes(long, synthetic=["my_data"], seeded=["tiny"])
    text = render.markdown(long, compared, no_costs(), captions, "embedding")
    assert "my_data: synthetic data" in text and "tiny: seeded random weights" in text
    assert "Settings of simclr: loss corrected, temperature 0.07, views 4" in text
    headings = re.findall(r"^#+ .*", text, re.MULTILINE)
    assert headings == [
        "# Results", "## my_data, tiny", "### k-NN, k = 20", "### linear probe", "### Other numbers of neighbours",
        "### Few-shot",
    ]  # fmt: skip
    means = table.summary(long).set_index(["features", *table.SETTING, "metric"])
    row = means.loc[("embedding+simclr", "linear", 0, 0, "accuracy")]
    section = text.split("### linear probe")[1].split("###")[0]
    (line,) = [line for line in section.splitlines() if line.startswith("| embedding+simclr |")]
    assert f"{100 * row['mean']:.1f}" in line and f"± {100 * row['std']:.1f}" in line
    assert section.count("**") >= 2, "the best is bold"
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, "every row has every column"


def test_latex(run: Run) -> None:
    long = table.collect(run.scores)
    found = table.comparisons(long, run.predictions, "embedding", seed=42)
    text = render.latex(long, found, render.notes(long, ["my_data"], []), "embedding")
    assert r"my\_data, tiny: accuracy. In \%" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert text.count("{") == text.count("}")
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])  # type: ignore[index]
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.splitlines() if "&" in line} == {columns - 1}
    assert re.search(r"\$\\mathbf\{\d+\.\d\} \\pm \d+\.\d\$", body)
    assert body.count("k = 20 ") == 1 and "k = 5 " not in body, "the other k are in the long table"
    row = found.set_index(["features", *table.SETTING]).loc[("simclr", "linear", 0, 0)]
    low, high = (render.points(row[bound]) for bound in ("low", "high"))
    assert f"${render.points(row['difference'])}\\ [{low}, {high}]$" in text.split(r"\toprule")[2]


def test_a_fine_tuned_model_is_compared_with_the_probe_on_the_embedding(run: Run, tmp_path: Path) -> None:
    """Nothing else has its protocol. A model of another dataset, applied to this one, is not compared."""
    long = table.collect(run.scores)
    predictions = list(run.predictions)
    classes = [f"c{number}" for number in range(5)]
    for name in ("finetune-base", "transfer-other"):
        for fold in range(3):
            rows = pd.read_parquet(run.predictions[3 + fold]).query("protocol == 'linear' and shots == 0")
            said, true = ([classes.index(label) for label in rows[key]] for key in ("predicted", "true"))
            where = {"dataset": "my_data", "backbone": "tiny", "features": name, "protocol": "finetune", "settings": {}}
            where |= {"fold": str(fold + 1), "seed": 0, "n_train": 60}
            clips = rows[["clip_id"]].astype("str").assign(label=rows["true"].astype("str"))
            chances = np.eye(5)[said], np.eye(5, dtype=bool)[true]
            made = selection.tables(*chances, clips, classes, False, where, {"epoch": 3})
            scores.write(*made, str(tmp_path / "scores.csv"), str(tmp_path / f"{name}-{fold}.parquet"))
            long = pd.concat([long, table.collect([tmp_path / "scores.csv"])], ignore_index=True)
            predictions.append(str(tmp_path / f"{name}-{fold}.parquet"))
    found = table.comparisons(long, predictions, "embedding", seed=42)
    assert "transfer-other" not in set(found["features"])
    rows = found.set_index(["features", *table.SETTING])
    model, same = rows.loc[("finetune-base", "finetune", 0, 0)], rows.loc[("simclr", "linear", 0, 0)]
    assert model["difference"] == same["difference"] and model["mcnemar_p"] == same["mcnemar_p"]
    assert model["low"] == pytest.approx(same["low"], abs=0.03) and model["n_clips"] == 90
    markdown = render.markdown(long, found, no_costs(), [], "embedding")
    latex = render.latex(long, found, [], "embedding")
    for text in (markdown, latex):
        assert "finetune-base" in text and "nan" not in text.lower()
        assert "compared with the linear probe on embedding" in " ".join(text.split())
    assert render.points(model["difference"]) in markdown.split("### fine-tuned")[1].split("###")[0]
    assert "A fine-tuned model" not in render.markdown(*frozen(run), no_costs(), [], "embedding")


def frozen(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    long = table.collect(run.scores)
    return long, table.comparisons(long, run.predictions, "embedding", seed=42)


@pytest.mark.parametrize("name", ["2024", "007", "1e5", "NA", "null", "True"])
def test_names_that_look_like_something_else(run: Run, tmp_path: Path, name: str) -> None:
    """A dataset, backbone and feature may be called so; nothing may become a number or NaN."""
    kept = [path for path in run.scores if "+" not in Path(path).name]
    files = []
    for number, path in enumerate(kept):
        rows = pd.read_csv(path).assign(dataset=name, backbone=name).replace({"features": {"simclr": name}})
        files.append(tmp_path / f"{number}.csv")
        rows.to_csv(files[-1], index=False)
    (tmp_path / "skipped.csv").write_text("clip_id,reason\na.wav,is empty\n")
    long = table.collect(files, {name: tmp_path / "skipped.csv"})
    assert set(long["dataset"]) == set(long["backbone"]) == {name} and set(long["features"]) == {"embedding", name}
    assert set(long["left_out"]) == {1}
    found = table.comparisons(long, run.predictions[:6], "embedding", seed=42)
    assert set(found["features"]) == {name} and found["low"].notna().all()
    (tmp_path / "c.csv").write_text(table.to_csv(found))
    pd.testing.assert_frame_equal(table.read(tmp_path / "c.csv"), found, check_dtype=False, rtol=1e-9)
    text = render.markdown(long, found, no_costs(), render.notes(long, [], []), "embedding")
    assert f"## {name}, {name}" in text and f"| {name} |" in text


def test_written_scores_and_differences_are_read_back_exactly(run: Run, tmp_path: Path) -> None:
    """Table and report round the same numbers: 0.0175 in one and 0.01749999 in the other were +1.8 and +1.7."""
    long, found = frozen(run)
    for name, frame in [("table", long), ("comparisons", found)]:
        (tmp_path / f"{name}.csv").write_text(table.to_csv(frame))
    columns = ["difference", "low", "high"]
    assert table.read(tmp_path / "comparisons.csv")[columns].equals(found[columns])
    again = table.read(tmp_path / "table.csv")
    assert again["value"].equals(long["value"])
    pd.testing.assert_frame_equal(table.summary(again), table.summary(long), check_exact=True)
    assert (found[columns] == found[columns].round(10)).all(axis=None)


def test_differences_as_people_read_them() -> None:
    values = [0.0175, -0.0004, 0.0004, -0.0, 0.1, float("nan")]
    assert [render.points(value) for value in values] == ["+1.8", "0.0", "0.0", "0.0", "+10.0", ""]


def test_the_best_are_those_that_look_best() -> None:
    """The means of a column count as equal where their first decimal, as shown, is."""
    same = {"dataset": "d", "backbone": "b", "protocol": "linear", "shots": 0, "k": 0}
    means = [0.5745, 0.5744, 0.57451, 0.57452, 0.5]
    found = render.best(pd.DataFrame([{**same, "mean": mean} for mean in means]))
    assert found.tolist() == [f"{100 * mean:.1f}" == "57.5" for mean in means]


def test_a_fold_that_cannot_be_graded(several_labels: Run) -> None:
    run = several_labels
    long = table.collect(run.scores)
    long.loc[long["fold"] == "2", "value"] = np.nan
    (note,) = [text for text in render.notes(long, [], []) if "mAP" in text]
    assert note.startswith("my_data: no mAP in fold 2 (")
    long["value"] = np.nan
    found = table.comparisons(long, run.predictions, "embedding", seed=42)
    for text in (
        render.markdown(long, found, no_costs(), [], "embedding"),
        render.latex(long, found, [], "embedding"),
    ):
        assert "nan" not in text.lower() and "**" not in text and "mathbf" not in text


def test_several_labels(several_labels: Run) -> None:
    run = several_labels
    long = table.collect(run.scores)
    assert table.main_metric(long) == {"my_data": "mAP"}
    compared = table.comparisons(long, run.predictions, "embedding", seed=42)
    assert set(compared["metric"]) == {"mAP"} and compared["difference"].notna().all() and compared["low"].isna().all()
    text = render.markdown(long, compared, no_costs(), [], "embedding")
    assert "| features | mAP | difference |" in text and "nan" not in text


def test_extraction_cost(run: Run, tmp_path: Path) -> None:
    def benchmark(name: str, seconds: float, memory: float) -> str:
        path = tmp_path / f"{name}.tsv"
        path.write_text(f"s\th:m:s\tmax_rss\tmax_vms\n{seconds}\t0:00:01\t{memory}\t-\n")
        return str(path)

    clean, views = benchmark("clean", 6, 900), benchmark("views", 20, 1500)
    jobs = {
        ("my_data", "tiny", "embedding"): cost_table.Jobs([clean, benchmark("e", 1, 500)], run.parts["embedding"]),
        ("my_data", "tiny", "simclr"): cost_table.Jobs([clean, views, benchmark("s", 3, "-")], run.parts["simclr"]),
    }
    found = cost_table.cost_table(jobs, NAMES).set_index("features")
    assert found.loc["embedding", "seconds_per_clip"] == pytest.approx(7 / 90)
    assert found.loc["embedding+simclr", "clips_per_second"] == pytest.approx(90 / 30), "the clean pass counts once"
    assert found.loc["embedding+simclr", "peak_mb"] == 1500
    size = sum(Path(part).stat().st_size for parts in run.parts.values() for part in parts)
    assert found.loc["embedding+simclr", "feature_bytes"] == size
    long = table.collect(run.scores)
    text = render.markdown(long, no_comparisons(), found.reset_index(), [], None)
    assert "| embedding+simclr | 3.0 | 0.333 | 1500 |" in text
    Path(views).unlink()
    found = cost_table.cost_table(jobs, NAMES).set_index("features")
    assert np.isnan(found.loc["simclr", "clips_per_second"]) and found.loc["simclr", "feature_bytes"] > 0
    assert "nan" not in render.markdown(long, no_comparisons(), found.reset_index(), [], None)
    gone = {("my_data", "tiny", "embedding"): cost_table.Jobs([clean], [str(tmp_path / "deleted.parquet")])}
    assert cost_table.cost_table(gone, ["embedding"])[cost_table.COST].isna().all(axis=None)


def no_comparisons() -> pd.DataFrame:
    return pd.DataFrame(columns=table.COMPARISONS)
