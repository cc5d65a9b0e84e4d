"""The report: its numbers against the tables they come from, and what the page holds."""

import base64
import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml

from fungi_audio.evaluate import render
from fungi_audio.evaluate import table as evaluation_table
from fungi_audio.report import answer, figures, page, results, rulegraph, run, settings, style
from fungi_audio.run.config import check
from tests.tools import small_run

ROOT = Path(__file__).parents[2]

Results = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def pairs(small_results: Results) -> list[results.Pair]:
    return results.read(**small_results[1])[1]


def unpacked(path: Path, name: str) -> str:
    found = re.search(f'id="{name}">([A-Za-z0-9+/=]+)<', path.read_text(encoding="utf-8"))
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


# Numbers


def test_answer_states_difference_interval_and_noise(pairs: list[results.Pair]) -> None:
    for pair in pairs:
        full = answer.everything(pair)
        assert full == "embedding+kl+simclr"
        row = answer.comparison(pair, "knn")
        text = answer.sentence(pair)
        assert answer.points(row.difference) in text
        if pair.metric == "mAP":
            assert answer.verdict(row) == "unknown" and "without an interval" in text
        else:
            assert answer.interval(row) in text
            assert ("contains 0" in text) == (row.low <= 0 <= row.high)
    told = answer.text(pairs, demonstration=True).splitlines()
    assert told[0].startswith("Demonstration only: of 3 pairs") and len(told) == 1 + 3
    assert told[1].count(" to ") == 3 and "several" in told[2] and "no interval" in told[2]


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.1, "better"), (-0.1, -0.01, "worse"), (-0.1, 0.1, "noise"), (0.0, 0.1, "noise"), (np.nan, 0, "unknown")],
)
def test_verdict(low: float, high: float, says: str) -> None:
    assert answer.verdict(next(pd.DataFrame({"low": [low], "high": [high]}).itertuples())) == says


def test_run_without_gradients_has_nothing_to_compare(pairs: list[results.Pair]) -> None:
    alone = pairs[0]._replace(combinations=["embedding"])
    assert answer.everything(alone) is None
    assert "no embedding and gradients to compare" in answer.overall([alone], demonstration=False)


def test_chance_level(pairs: list[results.Pair], tmp_path: Path) -> None:
    assert next(pair for pair in pairs if pair.dataset == "many").chance == 1 / 50
    clips = pd.DataFrame({"clip_id": list("abcd") * 2, "true": ["x", "x", "x;y", "y"] * 2})
    clips.to_parquet(tmp_path / "fold.parquet")
    paths = [str(tmp_path / "fold.parquet")]
    assert results.chance(paths, "accuracy") == 2 / 4
    assert results.chance(paths, "mAP") == (3 / 4 + 2 / 4) / 2


def test_confusion_and_class_scores_agree_with_the_table(pairs: list[results.Pair]) -> None:
    pair = next(pair for pair in pairs if pair.dataset == "many")
    k = {"knn": 10, "knn-cosine": 10, "linear": 0}
    found = results.classes(pair.predictions["embedding"], k, multilabel=False)
    for protocol, counted in found.items():
        row = pair.main[(pair.main["features"] == "embedding") & (pair.main["protocol"] == protocol)].iloc[0]
        assert counted.confusion is not None and counted.clips.sum() == 50 * 8
        assert np.isclose(np.trace(counted.confusion) / counted.clips.sum(), row["mean"])
        assert np.allclose(np.diag(counted.confusion) / counted.clips, counted.score)


def test_every_figure_is_valid_plotly(small_report: Path) -> None:
    drawn = json.loads(unpacked(small_report, "figures"))

    def leaves(tree: Any) -> Iterator[dict[str, Any]]:
        if isinstance(tree, dict) and "data" in tree and "layout" in tree:
            yield tree
        elif isinstance(tree, dict):
            for branch in tree.values():
                yield from leaves(branch)

    seen = [
        leaf for pair in drawn["figures"] for name, tree in pair.items() if name != "names" for leaf in leaves(tree)
    ]
    for leaf in seen[:: max(1, len(seen) // 40)]:
        go.Figure(leaf)  # refuses unknown properties and values
    assert all(leaf["layout"]["meta"]["alt"] for leaf in seen)
    for theme in drawn["themes"].values():
        go.layout.Template(theme)


def test_gains_show_the_table_of_comparisons(small_results: Results, pairs: list[results.Pair]) -> None:
    comparisons = pd.read_csv(small_results[1]["comparisons"])
    figure = figures.gains(pairs[0])
    series = next(one for one in figure["data"] if one["name"] == "linear probe")
    rows = comparisons[
        (comparisons["dataset"] == "demo") & (comparisons["protocol"] == "linear") & (comparisons["shots"] == 0)
    ]
    assert np.allclose(series["x"], 100 * rows["difference"], atol=1e-3)
    assert np.allclose(np.add(series["x"], series["error_x"]["array"]), 100 * rows["high"], atol=2e-3)


def test_measured_axes_are_exact_and_one_tick_is_in_the_middle(pairs: list[results.Pair]) -> None:
    pair = pairs[0]
    drawn = figures.against_cost(pair, "knn")["data"]
    assert [one["x"][0] for one in drawn] == pair.costs.loc[pair.combinations, "seconds_per_clip"].tolist()
    single = pair._replace(scores=pair.scores[pair.scores["k"].isin([0, 10])])
    figure = figures.neighbours(single, "knn")
    low, high = figure["layout"]["xaxis"]["range"]
    places = [(np.log10(one["x"][0]) - low) / (high - low) for one in figure["data"]]
    assert 0.3 < min(places) < 0.5 < max(places) < 0.7


def test_chance_is_a_line_where_the_scores_reach_it(pairs: list[results.Pair]) -> None:
    pair = pairs[0]
    rows = pair.scores[pair.scores["usual"] & (pair.scores["protocol"] == "linear") & (pair.scores["shots"] > 0)]
    for chance, lines in [(rows["mean"].mean(), 1), (0.0, 0)]:
        shapes = figures.few_shot(pair._replace(chance=chance), "linear")["layout"]["shapes"]
        assert [shape["y0"] for shape in shapes] == [100 * chance] * lines


def test_a_run_of_one_feature_has_a_report(small_results: Results, tmp_path: Path) -> None:
    table = pd.read_csv(small_results[1]["table"], dtype={"fold": "string"})
    kept = table[(table["dataset"] == "demo") & (table["features"] == "kl")]
    kept.to_csv(tmp_path / "table.csv", index=False)
    pd.read_csv(small_results[1]["comparisons"]).head(0).to_csv(tmp_path / "comparisons.csv", index=False)
    files = [path for path in small_results[1]["predictions"] if "/demo/demo-tiny/kl/" in path]
    scores, found = results.read(
        tmp_path / "table.csv", tmp_path / "comparisons.csv", files, small_results[1]["maps"], None
    )
    config = small_run.config({"demo": 6}, small_run.BACKBONES)
    config["datasets"]["demo"]["source"] = "https://example.org/get?file=birds.zip&token=${STORAGE_TOKEN}"
    config["run"] |= {"finetune": [], "transfer": [], "embeddings": []}
    config = settings.used(config)
    text = page.render(scores, found, config, small_run.GRAPH, {}, run.rule_times(tmp_path), run.facts(found), None)
    assert "no embedding and gradients to compare" in text
    assert "get?file=...&amp;token=${STORAGE_TOKEN}" in text and "in place of <code>...</code>" in text


def test_fine_tuned_models_are_rows_with_gains_of_their_own(pairs: list[results.Pair]) -> None:
    pair = pairs[0]
    tuned = pair.main.iloc[[-1]].assign(features="finetune-x", protocol="finetune", k=0)
    costs = pd.concat([pair.costs, pd.DataFrame(index=["finetune-x"], columns=pair.costs.columns, dtype=float)])
    mixed = pair._replace(
        combinations=[*pair.combinations, "finetune-x"],
        protocols={**pair.protocols, "finetune": "fine-tuned"},
        scores=pd.concat([pair.scores, tuned]),
        costs=costs,
    )
    rows = page.main_rows(mixed, list(mixed.protocols))
    assert rows[-1]["features"] == "finetune-x" and rows[-1]["cells"][6].text
    assert rows[-1]["cells"][7].more == answer.interval(next(tuned.itertuples()))
    assert len(figures.gains(mixed)["data"]) == 4
    assert answer.by_protocol(mixed) == answer.by_protocol(pair)
    assert answer.overall([mixed], False) == answer.overall([pair], False)
    assert figures.against_size(mixed, "finetune")["data"] == []


def test_two_k_equally_close_to_20(small_results: Results, tmp_path: Path) -> None:
    """k = 10 and 30: one of them stands for k-NN, in every figure and once in the table."""
    table = pd.read_csv(small_results[1]["table"], dtype={"fold": "string"})
    against = pd.read_csv(small_results[1]["comparisons"])
    for frame in (table, against):
        if "chosen" in frame:
            frame["chosen"] = frame["chosen"].str.replace('"k": 5}', '"k": 30}')
        else:
            frame["k"] = frame["k"].replace(5, 30)
    table.to_csv(tmp_path / "table.csv", index=False)
    against.to_csv(tmp_path / "comparisons.csv", index=False)
    arguments = {**small_results[1], "table": tmp_path / "table.csv", "comparisons": tmp_path / "comparisons.csv"}
    pair = results.read(**arguments)[1][0]
    assert len(figures.gains(pair)["data"]) == 3 and pair.protocols["knn"] == "k-NN, k = 10"
    assert len(pair.main) == len(pair.combinations) * len(pair.protocols)


def test_nothing_that_can_be_graded(pairs: list[results.Pair]) -> None:
    """Every test clip has every label: no mAP, and a report that says so."""
    pair = next(pair for pair in pairs if pair.metric == "mAP")
    numbers = ["mean", "std", "std_draws", "difference"]
    empty = pair._replace(scores=pair.scores.assign(best=False, **dict.fromkeys(numbers, np.nan)))
    config = small_run.config({"several": 5}, small_run.BACKBONES)
    drawn = page.pair_figures(empty, config)
    json.dumps(drawn, allow_nan=False)
    assert drawn["against_size"]["linear"]["data"][0]["y"] == [None]
    assert "no class can be graded" in answer.overall([empty], False)
    cells = [cell.text for row in page.main_rows(empty, list(empty.protocols)) for cell in row["cells"]]
    assert "nan" not in "".join(cells)


def test_table_and_report_show_the_same_numbers(small_results: Results, pairs: list[results.Pair]) -> None:
    long = evaluation_table.read(small_results[1]["table"])
    cells = render.cells(long)
    for pair in pairs:
        own = cells[(cells["dataset"] == pair.dataset) & cells["usual"] & (cells["shots"] == 0)]
        shown = {(row.features, row.protocol): row.cell for row in own.itertuples()}
        for row in page.main_rows(pair, list(pair.protocols)):
            for number, protocol in enumerate(pair.protocols):
                cell, other = row["cells"][2 * number], shown[row["features"], protocol]
                assert cell.text.partition(" ")[0] == f"{other.mean:.1f}" and (cell.kind == "best") == other.best


# The page as text


def test_nothing_is_loaded_from_elsewhere_and_names_are_data(small_report: Path) -> None:
    text = small_report.read_text(encoding="utf-8")
    assert small_run.NASTY not in text
    assert "<b>dog" not in text
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    assert small_report.stat().st_size < 4e6
    drawn = unpacked(small_report, "figures")
    assert "<script" not in drawn and "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in drawn


def test_the_configuration_in_the_report_runs_again(small_report: Path) -> None:
    assert "in place of <code>...</code>" not in small_report.read_text(encoding="utf-8")
    full = check(
        yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")), ROOT / "schemas/config.schema.yaml"
    )
    shown = settings.used(full)
    again = check(yaml.safe_load(settings.as_yaml(shown)), ROOT / "schemas" / "config.schema.yaml")
    assert settings.digest(settings.used(again)) == settings.digest(shown)
    assert set(shown["datasets"]) == {"demo"} and set(shown["pretrain"]) == {"demo"} and "cluster" not in shown
    other = {**shown, "seed": shown["seed"] + 1}
    assert settings.digest(other) != settings.digest(shown)


def test_warnings_name_what_is_not_real_and_what_a_backbone_has_seen() -> None:
    config = small_run.config({"demo": 6}, ["a", "b"])
    config["backbones"]["b"]["checkpoint"] = "pretrain:short"
    config["pretrain"] = {"short": {"datasets": ["demo", "speech"]}}
    assert [text.partition(":")[0] for text in settings.unreal(config)] == [
        "Synthetic data (demo)",
        "Seeded random weights (a)",
    ]
    (said,) = settings.seen(config)
    assert (
        said
        == "b was pretrained by this run on demo, speech; it has seen the test clips of demo, without their labels."
    )
    config["datasets"]["demo"]["layout"] = "csv"
    config["run"]["backbones"] = ["b"]
    assert settings.unreal(config) == []


def test_colours_differ_for_colour_blind_eyes_and_from_the_page() -> None:
    blind = {  # G. Machado, M. Oliveira, L. Fernandes (2009), severity 1
        "none": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }

    def linear(colour: str) -> np.ndarray:
        value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    def lab(rgb: np.ndarray) -> np.ndarray:
        to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 1e-3, 1) / [0.9505, 1, 1.089])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    for colours, background in [(style.LIGHT, "#ffffff"), (style.DARK, "#14181d")]:
        behind = linear(background) @ [0.2126, 0.7152, 0.0722]
        for colour in colours:
            light = linear(colour) @ [0.2126, 0.7152, 0.0722]
            assert (max(light, behind) + 0.05) / (min(light, behind) + 0.05) >= 2.95, colour
        for matrix in blind.values():
            seen = [lab(np.asarray(matrix) @ linear(colour)) for colour in [style.BASELINE, *colours]]
            assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


def test_rule_graph_layers_and_reduction() -> None:
    assert rulegraph.layers(small_run.GRAPH) == [["index"], ["encode"], ["gradient"], ["report"]]
    assert rulegraph.reduced(small_run.GRAPH)["gradient"] == ["encode"]
    drawn = rulegraph.svg(small_run.GRAPH, {"gradient": 9})
    assert "gradient × 9" in drawn and drawn.count("<path") == 3


def test_rule_times(tmp_path: Path) -> None:
    for name, row in {"encode/a/0": "2.5\t0:0:2\t300", "encode/a/1": "1.5\t0:0:1\t-", "table": "9\t0:0:9\t80"}.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{row}\n")
    times = run.rule_times(tmp_path).set_index("rule")
    assert times.index.tolist() == ["table", "encode"]
    assert times.loc["encode"].tolist() == [2, 4.0, 2.5, 300.0]
    assert run.rule_times(tmp_path / "absent").empty
