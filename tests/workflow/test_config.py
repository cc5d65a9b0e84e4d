"""Mistakes in a configuration get one message that names the key, the value and what is allowed."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fungi_audio.errors import ConfigError
from fungi_audio.run.config import load
from tests.tools.workflow import ROOT, Workflow

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def edited(path: str, value) -> dict:
    config = copy.deepcopy(DEFAULT)
    *parents, key = path.split("/")
    section = config
    for parent in parents:
        section = section.setdefault(parent, {})
    section[key] = value
    return config


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_made_configs_are_valid(path, monkeypatch, tmp_path):
    over = yaml.safe_load(path.read_text(encoding="utf-8"))
    merged = merge(copy.deepcopy(DEFAULT), over)
    for section in ("datasets", "backbones"):
        for name in merged["run"][section]:
            for key in ("source", "checkpoint"):
                local = merged[section][name].get(key, "")
                if local.startswith("resources/"):
                    file = tmp_path / local
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()
    monkeypatch.chdir(tmp_path)
    load(merged, ROOT)


def merge(base: dict, over: dict) -> dict:
    for key, value in over.items():
        base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return base


def test_defaults_are_filled_in_for_the_objective_that_has_them():
    features = load(DEFAULT, ROOT)["features"]
    assert features["embedding"] == {"objective": "embedding"}
    assert "views" not in features["kl"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sed", 1, r"unknown key 'sed'.*did you mean 'seed'"),
        ("seed", "x", r"seed is 'x': expected integer"),
        ("run/datasets", ["dmeo"], r"'dmeo'.*not defined.*did you mean 'demo'"),
        ("run/backbones", ["none"], r"run.backbones names 'none'.*Defined: demo-tiny"),
        ("features/kl/temperature", 0, r"features.kl.temperature is 0: must be above 0"),
        ("features/kl/views", 4, r"unknown key 'views' in features.kl.*Allowed: objective, temperature"),
        ("features/kl/objective", "klx", r"features.kl.objective is 'klx': allowed: embedding, kl, simclr"),
        ("precision", "fp16", r"precision is 'fp16': allowed: auto, fp32, bf16"),
        ("datasets/demo/layout", "esc", r"datasets.demo.layout is 'esc': allowed:"),
        ("datasets/demo/folds", [], r"datasets.demo.folds"),
        ("datasets/..%2Fx", {"layout": "csv", "target_length": 64}, r"must match"),
        ("pretrain/demo/masked", 64, r"pretrain.demo: masked: 64 patches is more than the 63 .* grid of 8 x 8"),
        ("pretrain/demo/stride", [10, 10], r"pretrain.demo: stride \[10, 10\] differs from the patch \[16, 16\]"),
        ("pretrain/demo/target_length", 8, r"pretrain.demo: 8 frames .* less than one 16 x 16 patch"),
        (
            "finetune/x",
            {"dataset": "demo", "backbone": "demo-tiny", "epochs": 2, "selection": "average", "average_from": 3},
            r"finetune.x: average_from 3 is after the last epoch \(2\)",
        ),
        ("features/kl/temperature", float("nan"), r"features.kl.temperature is nan: expected a finite number"),
        ("evaluation", {"linear": {"l2": {"to": 400}}}, r"evaluation.linear.l2.to is 400"),
        ("datasets/demo\n", {"layout": "csv", "target_length": 64}, r"must match"),
        ("datasets/table.csv", {"layout": "csv", "target_length": 64}, r"table.csv"),
        ("backbones/demo-tiny/checkpoint", "random:huge-patch", r"random:huge-patch is not a model; allowed: tiny"),
        ("backbones/demo-tiny/checkpoint", "http://x.org/a.pth", r"checkpoint is plain http"),
        ("backbones/demo-tiny/layer", 99, r"backbones.demo-tiny: layer 99 does not exist; the model has 12 blocks"),
        ("backbones/demo-tiny/pooling", "avg", r"backbones.demo-tiny: pooling: avg does not read token 0"),
        ("datasets/demo/layout", "folder", r"datasets.demo.source is missing"),
        ("backbones/demo-tiny/checkpoint", "nowhere.pth", r"'nowhere.pth': no such file, and no preset"),
    ],
)
def test_mistakes(path, value, message):
    with pytest.raises(ConfigError, match=message):
        load(edited(path, value), ROOT)


@pytest.mark.parametrize(
    ("section", "definition", "message"),
    [
        ("finetune", {"dataset": "esc50", "backbone": "mine"}, r"backbones.mine.checkpoint is 'no.pth': no such"),
        ("finetune", {"dataset": "demo", "backbone": "demo-tiny", "layer": 50}, r"finetune.x: layer 50 does not exist"),
        ("finetune", {"dataset": "sounds", "backbone": "demo-tiny"}, r"finetune.x: sounds has no labels"),
        ("embeddings", {"dataset": "demo", "model": "demo-tinny"}, r"did you mean 'demo-tiny'"),
        ("embeddings", {"dataset": "gone", "model": "demo-tiny"}, r"datasets.gone.source: .* does not exist"),
        ("embeddings", {"dataset": "demo", "model": "demo-tiny", "layer": "head"}, r"demo-tiny was not"),
        ("embeddings", {"dataset": "demo", "model": "finetune:d/1", "layer": "weighted"}, r"finetune:d/1 was not"),
        ("embeddings", {"dataset": "demo", "model": "finetune:d/1", "layer": "head"}, r"lacks \(head.hidden\)"),
        ("transfer", {"dataset": "demo", "checkpoint": "no.safetensors"}, r"no such file and no model"),
        ("transfer", {"dataset": "demo", "checkpoint": "finetune:d"}, r"demo has no fold ''"),
        ("transfer", {"dataset": "demo", "checkpoint": "finetune:d/9"}, r"no fold '9'.* 1, 2, 3, 4, 5"),
        ("transfer", {"dataset": "demo", "checkpoint": "finetune:e/1"}, r"transfer.x names 'e', which is not defined"),
        ("datasets", {"layout": "folder", "source": ".", "target_length": 64}, r"run.datasets: x has no labels"),
        ("features", {"objective": "mpc"}, r"backbones.random has random weights without pretext heads"),
    ],
)
def test_all_that_a_run_reaches_is_there_and_fits(section, definition, message, tmp_path):
    config = edited(f"{section}/x", definition)
    config["run"] |= {section: ["x"], "backbones": ["random"]}
    config["backbones"]["random"] = {"family": "ssast", "checkpoint": "random:tiny-patch"}
    config["backbones"]["mine"] = {"family": "ssast", "checkpoint": "no.pth"}
    config["datasets"]["gone"] = {"layout": "csv", "source": str(tmp_path / "gone"), "target_length": 64}
    config["datasets"]["sounds"] = {"layout": "folder", "source": str(tmp_path), "target_length": 64}
    config.setdefault("finetune", {})["d"] = {"dataset": "demo", "backbone": "demo-tiny"}
    with pytest.raises(ConfigError, match=message):
        load(config, ROOT)


def test_pretext_gradients_are_those_of_the_last_block():
    config = edited("backbones/demo-tiny/layer", 5)
    config["features"]["mpc"] = {"objective": "mpc"}
    config["run"]["features"] = ["embedding", "mpc"]
    with pytest.raises(ConfigError, match=r"has mpc, .* but backbones.demo-tiny has another layer or target; leave"):
        load(config, ROOT)


@pytest.mark.parametrize("name", ["../../x", "a; touch PWNED", "", ".hidden", "a/b", "a b", "a\nb", "é"])
@pytest.mark.fault("names", "a dataset called {name!r}", "refused by the schema")
def test_names_that_could_leave_their_folder_are_refused(name):
    config = copy.deepcopy(DEFAULT)
    config["datasets"][name] = config["datasets"]["demo"]
    with pytest.raises(ConfigError):
        load(config, ROOT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["run", "seed", "datasets", "features", "backbones", "evaluation", "cluster"]), JSON)
def test_no_value_gives_anything_but_a_config_error(section, value):
    try:
        load(edited(section, value), ROOT)
    except ConfigError as error:
        assert str(error)


def test_snakemake_shows_one_message_and_no_traceback(tmp_path: Path):
    done = Workflow(tmp_path, {"features": {"kl": {"temprature": 1}}}).snakemake("--dry-run", check=False)
    assert done.returncode == 1
    assert "unknown key 'temprature' in features.kl (did you mean 'temperature'?)" in done.stdout
    assert "Traceback" not in done.stdout
    assert "File " not in done.stdout
