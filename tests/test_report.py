"""The report: its numbers against the tables they come from, and the page in a real browser without a network."""

import base64
import gzip
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from fungi_audio.config import check
from fungi_audio.report import answer, figures, page, results, rulegraph, run, settings, style, summary
from tests import browser, small_run
from tests.workflow import Workflow

ROOT = Path(__file__).parent.parent
DATASETS, BACKBONES = {"demo": 6, "several": 5, "many": 50}, ["demo-tiny"]
GRAPH = {"index": [], "encode": ["index"], "gradient": ["encode", "index"], "report": ["gradient"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("run")
    return root, small_run.make(root, DATASETS, BACKBONES, clips=8)


@pytest.fixture(scope="module")
def pairs(made: tuple[Path, dict[str, Any]]) -> list[results.Pair]:
    return results.read(**made[1])[1]


@pytest.fixture(scope="module")
def report(made: tuple[Path, dict[str, Any]]) -> Path:
    root, arguments = made
    scores, found = results.read(**arguments)
    config = small_run.config(DATASETS, BACKBONES)
    text = page.render(
        scores, found, config, GRAPH, {"gradient": 9}, run.rule_times(root / "results" / "benchmarks"),
        run.facts(found), run.commit(ROOT),
    )  # fmt: skip
    path = root / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


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


def test_confusion_and_class_scores_agree_with_the_table(pairs: list[results.Pair]) -> None:
    pair = next(pair for pair in pairs if pair.dataset == "many")
    k = {"knn": 10, "knn-cosine": 10, "linear": 0}
    found = results.classes(pair.predictions["embedding"], k, multilabel=False)
    for protocol, counted in found.items():
        row = pair.main[(pair.main["features"] == "embedding") & (pair.main["protocol"] == protocol)].iloc[0]
        assert counted.confusion is not None and counted.clips.sum() == 50 * 8
        assert np.isclose(np.trace(counted.confusion) / counted.clips.sum(), row["mean"])
        assert np.allclose(np.diag(counted.confusion) / counted.clips, counted.score)


def test_every_figure_is_valid_plotly(report: Path) -> None:
    drawn = json.loads(unpacked(report, "figures"))

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


def test_gains_show_the_table_of_comparisons(made: tuple[Path, dict[str, Any]], pairs: list[results.Pair]) -> None:
    comparisons = pd.read_csv(made[1]["comparisons"])
    figure = figures.gains(pairs[0])
    series = next(one for one in figure["data"] if one["name"] == "linear probe")
    rows = comparisons[
        (comparisons["dataset"] == "demo") & (comparisons["protocol"] == "linear") & (comparisons["shots"] == 0)
    ]
    assert np.allclose(series["x"], 100 * rows["difference"], atol=1e-3)
    assert np.allclose(np.add(series["x"], series["error_x"]["array"]), 100 * rows["high"], atol=2e-3)


def test_a_run_of_one_feature_has_a_report(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    table = pd.read_csv(made[1]["table"], dtype={"fold": "string"})
    kept = table[(table["dataset"] == "demo") & (table["features"] == "kl")]
    kept.to_csv(tmp_path / "table.csv", index=False)
    pd.read_csv(made[1]["comparisons"]).head(0).to_csv(tmp_path / "comparisons.csv", index=False)
    files = [path for path in made[1]["predictions"] if "/demo/demo-tiny/kl/" in path]
    scores, found = results.read(tmp_path / "table.csv", tmp_path / "comparisons.csv", files, made[1]["maps"], None)
    config = small_run.config({"demo": 6}, BACKBONES)
    text = page.render(scores, found, config, GRAPH, {}, run.rule_times(tmp_path), run.facts(found), None)
    assert "no embedding and gradients to compare" in text


def test_fine_tuned_models_are_rows_without_gains(pairs: list[results.Pair]) -> None:
    pair = pairs[0]
    tuned = pair.main.iloc[[0]].assign(features="finetune-x", protocol="finetune", k=0, difference=np.nan, low=np.nan)
    costs = pd.concat([pair.costs, pd.DataFrame(index=["finetune-x"], columns=pair.costs.columns, dtype=float)])
    mixed = pair._replace(
        combinations=[*pair.combinations, "finetune-x"],
        protocols={**pair.protocols, "finetune": "fine-tuned"},
        scores=pd.concat([pair.scores, tuned]),
        costs=costs,
    )
    rows = page.main_rows(mixed, list(mixed.protocols))
    assert rows[-1]["features"] == "finetune-x" and rows[-1]["cells"][6].text
    assert len(figures.gains(mixed)["data"]) == 3
    assert answer.overall([mixed], False) == answer.overall([pair], False)
    assert figures.against_size(mixed, "finetune")["data"] == []


# The page as text


def test_nothing_is_loaded_from_elsewhere_and_names_are_data(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert small_run.NASTY not in text
    assert "<b>dog" not in text
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    assert report.stat().st_size < 4e6
    drawn = unpacked(report, "figures")
    assert "<script" not in drawn and "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in drawn


def test_the_configuration_in_the_report_runs_again(report: Path) -> None:
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
    assert rulegraph.layers(GRAPH) == [["index"], ["encode"], ["gradient"], ["report"]]
    assert rulegraph.reduced(GRAPH)["gradient"] == ["encode"]
    drawn = rulegraph.svg(GRAPH, {"gradient": 9})
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


# The end of a run


def test_failure_says_which_job_why_and_where(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "index.log", tmp_path / "encode.log"
    ours.write_text("2026-11-20 10:00:00,1 ERROR index: dog.wav is empty; remove it\nline two\n")
    theirs.write_text("2026-11-20 10:00:00,1 ERROR encode failed\nTraceback (most recent call last):\nMemoryError: x\n")
    said = summary.failure({"index demo": [str(ours)], "encode 1": [str(theirs)], "map": ["absent.log"]}, ["main.log"])
    assert "3 jobs failed" in said and "index demo: dog.wav is empty; remove it" in said
    assert "encode 1: MemoryError: x" in said and str(theirs) in said and "left no log" in said


def test_duration() -> None:
    assert [summary.duration(s) for s in (41.4, 130, 7500)] == ["41 s", "2 min 10 s", "2 h 05 min"]


def test_a_failed_run_ends_with_its_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    config = {
        "run": {"datasets": ["mine"], "backbones": ["demo-tiny"], "features": ["embedding"]},
        "datasets": {"mine": {"layout": "esc50", "source": str(empty), "target_length": 64, "folds": [1], "clips": 9}},
    }
    done = Workflow(tmp_path / "work", config).snakemake("results/mine/clips.parquet", check=False)
    assert done.returncode
    assert "1 job failed.\n\n  index mine: " in done.stdout and "log: logs/index/mine.log" in done.stdout


# The page in a browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    if browser.programs() is None:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "chromium", "chromium-driver"], capture_output=True, check=False
        )
    if browser.programs() is None:
        pytest.skip("no chromium and chromedriver, and apt-get could not install them")
    with browser.headless() as started:
        yield started


def choose(chrome: Chrome, name: str, words: str) -> None:
    Select(chrome.find_element(By.NAME, name)).select_by_visible_text(words)
    time.sleep(0.5)


def column(chrome: Chrome, number: int, table: str = "main") -> list[str]:
    script = """return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter(row => !row.hidden)
      .map(row => row.cells[arguments[1]].dataset.value ?? row.cells[arguments[1]].textContent)"""
    return chrome.execute_script(script, table, number)


def test_opens_offline_without_errors(chrome: Chrome, report: Path) -> None:
    browser.open_page(chrome, report)
    assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    shown = chrome.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => [p.hidden, !!p.querySelector('svg')])"
    )
    assert len(shown) == 8 and all(drawn for hidden, drawn in shown if not hidden)
    assert chrome.execute_script("return [...document.querySelectorAll('.plot')].every(p => p.hidden || p.ariaLabel)")
    assert chrome.execute_script("return [...document.querySelectorAll('th')].every(th => th.scope)")


def test_sorts_and_filters(chrome: Chrome, report: Path) -> None:
    browser.open_page(chrome, report)
    header = chrome.find_elements(By.CSS_SELECTOR, "#main thead button")[3]
    header.click()
    values = [float(value) for value in column(chrome, 3)]
    assert values == sorted(values, reverse=True) and len(values) == 7 + 3 + 3
    header.click()
    assert [float(value) for value in column(chrome, 3)] == sorted(values)
    assert chrome.execute_script("return document.querySelectorAll('#main th')[3].ariaSort") == "ascending"
    chrome.find_element(By.CSS_SELECTOR, "input[data-filters=main]").send_keys("several kl+sim")
    assert set(column(chrome, 1)) == {"several"} and len(column(chrome, 0)) == 1


def test_hovering_names_the_clip_and_markup_stays_text(chrome: Chrome, report: Path) -> None:
    browser.open_page(chrome, report)
    choose(chrome, "method", "PCA")
    point = chrome.execute_script("""
      const plot = document.getElementById("map"), layout = plot._fullLayout;
      const trace = plot.data.findIndex(t => t.text[0].includes("alert"));
      plot.scrollIntoView({ block: "center" });
      const box = plot.getBoundingClientRect(), [x, y] = [plot.data[trace].x[0], plot.data[trace].y[0]];
      return [box.x + layout.xaxis._offset + layout.xaxis.d2p(x), box.y + layout.yaxis._offset + layout.yaxis.d2p(y)];
    """)
    actions = ActionChains(chrome)
    actions.w3c_actions.pointer_action.move_to_location(*map(round, point))
    actions.perform()
    hover = WebDriverWait(chrome, 5).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#map .hovertext"))
    assert small_run.NASTY in hover[0].text
    assert chrome.execute_script("return document.querySelectorAll('b, .plot script').length") == 0
    assert "<b>dog & cat</b>" in chrome.execute_script(
        "return document.querySelector('select[name=label]').textContent"
    )
    assert not [e for e in chrome.get_log("browser") if e["level"] == "SEVERE"]


def test_choices_change_the_figures(chrome: Chrome, report: Path) -> None:
    browser.open_page(chrome, report)
    confusion = "return document.querySelector('[data-path^=confusion]')"
    before = chrome.execute_script(f"{confusion}.ariaLabel")
    choose(chrome, "combination", "kl")
    assert chrome.execute_script(f"{confusion}.ariaLabel") != before
    choose(chrome, "pair", "several, demo-tiny")
    assert chrome.execute_script(f"{confusion}.hidden")
    choose(chrome, "pair", "many, demo-tiny")
    assert not chrome.execute_script(f"{confusion}.hidden")
    choose(chrome, "combination", "embedding+kl+simclr")
    assert chrome.execute_script("return document.getElementById('map').data.length") == 50
    choose(chrome, "label", "class 07")
    opacity = chrome.execute_script("return document.getElementById('map').data.map(t => t.marker.opacity)")
    assert sorted(opacity)[-2:] == [0.08, 1]


def test_dark_phone_and_print(chrome: Chrome, report: Path) -> None:
    browser.open_page(chrome, report, width=360, scheme="dark")
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= 360
    ink = "return getComputedStyle(document.querySelector('.plot text.xtitle')).fill"
    assert chrome.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert chrome.execute_script(ink) == "rgb(227, 231, 236)"
    browser.open_page(chrome, report)
    chrome.execute_script(
        "addEventListener('beforeprint', () => { document.title = document.querySelector('.plot').layout.width })"
    )
    printed = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF") and chrome.title == "700"


def test_picture_of_the_report(chrome: Chrome, report: Path, tmp_path: Path) -> None:
    """The top of the page, as the README shows it: ``python -m tests.browser results/report.html report.png``."""
    browser.screenshot(chrome, report, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.width == 1200 and len(image.getcolors(256) or []) > 20
    assert (tmp_path / "report.png").stat().st_size < 200_000
