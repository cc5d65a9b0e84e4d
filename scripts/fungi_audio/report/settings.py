"""The configuration as the report shows it."""

import hashlib
import re
from typing import Any

import yaml

from ..files.provenance import without_secrets
from ..run.checks import SECTIONS, reached

ELSEWHERE = ("cluster", "data_root")


def used(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that decides the results: no definition that the run leaves out, no site."""
    needed = reached(config)
    kept = {key: value for key, value in config.items() if key not in ELSEWHERE}
    for section in SECTIONS:
        kept[section] = {name: value for name, value in config.get(section, {}).items() if (section, name) in needed}
    return without_secrets({key: value for key, value in kept.items() if value != {}})


def removed(config: dict[str, Any]) -> bool:
    """Whether a config from `used` lacks values of a URL's query."""
    return bool(re.search(r"://\S*[?&=]\.\.\.", as_yaml(config)))


def as_yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def digest(config: dict[str, Any]) -> str:
    """First 16 digits of the SHA-256 of a config, whatever the order of its keys."""
    text = yaml.safe_dump(config, sort_keys=True, allow_unicode=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def baseline(config: dict[str, Any]) -> str | None:
    """The run's embedding feature, which the others are compared with."""
    features = config["features"]
    return next((name for name in config["run"]["features"] if features[name]["objective"] == "embedding"), None)


def unreal(config: dict[str, Any]) -> list[str]:
    """Why the numbers of a run are a demonstration: made-up data, models that were not trained."""
    run, data, backbones = config["run"], config["datasets"], config["backbones"]
    synthetic = [name for name in run["datasets"] if data[name]["layout"] == "synthetic"]
    seeded = [name for name in run["backbones"] if backbones[name]["checkpoint"].startswith("random:")]
    reasons = []
    if synthetic:
        reasons.append(f"Synthetic data ({', '.join(synthetic)}): the numbers say nothing about real audio.")
    if seeded:
        reasons.append(f"Seeded random weights ({', '.join(seeded)}): not a trained model.")
    return reasons


def seen(config: dict[str, Any]) -> list[str]:
    """Which backbones this run pretrained itself, and on which of the clips that it evaluates."""
    notes = []
    for name in config["run"]["backbones"]:
        kind, _, pretraining = config["backbones"][name]["checkpoint"].partition(":")
        if kind == "pretrain":
            own = config["pretrain"][pretraining]["datasets"]
            tested = [dataset for dataset in own if dataset in config["run"]["datasets"]]
            more = f"; it has seen the test clips of {', '.join(tested)}, without their labels" if tested else ""
            notes.append(f"{name} was pretrained by this run on {', '.join(own)}{more}.")
    return notes
