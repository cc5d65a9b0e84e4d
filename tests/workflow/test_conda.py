"""The conda environments: pins that agree, no strays, and Snakemake creating and activating each."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conda.channel import make_channel

ROOT = Path(__file__).parents[2]
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
USED = [env for env in ENVS if env.stem != "huggingface"]  # by the run of these tests
CONFIG = {
    "run": {"datasets": ["tones"], "backbones": ["tiny"], "features": ["embedding"]},
    "datasets": {"tones": {"layout": "synthetic", "clips": 20, "folds": [1, 2], "target_length": 64}},
    "backbones": {"tiny": {"family": "ssast", "checkpoint": "random:tiny-patch"}},
    "evaluation": {"knn": {"k": [1]}, "linear": {"l2": {"values": 2}}, "few_shot": {"shots": [1], "draws": 1}},
}


def read(env: Path) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Channels, conda pins and pip pins of an environment."""
    content = yaml.safe_load(env.read_text())
    conda = dict(re.split(r"\s*=\s*", spec, maxsplit=1) for spec in content["dependencies"] if isinstance(spec, str))
    pip = [line for spec in content["dependencies"] if isinstance(spec, dict) for line in spec["pip"]]
    return content["channels"], conda, dict(line.split("==") for line in pip)


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    files = ("requirements.txt", "requirements-huggingface.txt")
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return dict(match.groups() for line in lines if (match := re.match(r"([\w.-]+)==([^ ;\\]+)", line)))  # type: ignore[misc]


@pytest.mark.parametrize("env", ENVS, ids=lambda env: env.stem)
def test_pins_are_those_of_the_lock_file(env: Path, locked: dict[str, str]) -> None:
    _, conda, pip = read(env)
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in conda.values())
    drift = {name: (version, locked.get(name)) for name, version in pip.items() if locked.get(name) != version}
    assert not drift, f"{env.name} and requirements.txt disagree: {drift}; run the same version in both"
    both = {name: version for name, version in conda.items() if name in locked and name != "pip"}
    assert all(locked[name] == version for name, version in both.items())


@pytest.mark.parametrize("env", ENVS, ids=lambda env: env.stem)
def test_channels(env: Path) -> None:
    channels, conda, _ = read(env)
    assert channels[-1] == "nodefaults" and set(channels) <= {"conda-forge", "bioconda", "nodefaults"}
    assert conda["python"] == "3.11"


def test_every_environment_is_used_and_exists() -> None:
    used = set()
    for rules in (ROOT / "rules").glob("*.smk"):
        used |= {(rules.parent / name).resolve() for name in re.findall(r'"(\.\./envs/[^"]+)"', rules.read_text())}
    assert used == set(ENVS)


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables for the stand-in and a channel with what envs/ takes from conda-forge.

    Its Python is the one of the tests; each start of it notes the environment that was active in DIARY.
    """
    folder = tmp_path_factory.mktemp("conda")
    python = f'#!/bin/sh\necho "$CONDA_PREFIX" >> {folder}/diary\nexec {sys.executable} "$@"\n'
    pins = {f"{name}={version}" for env in ENVS for name, version in read(env)[1].items()}
    packages = {}
    for pin in pins:
        name = pin.split("=")[0]
        packages[pin] = {"bin/python": python} if name == "python" else {f"share/{name}.txt": f"{pin}\n"}
    url = make_channel(folder / "channel", packages)
    path = f"{ROOT / 'tests' / 'workflow' / 'conda' / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TEST_CHANNEL": url, "DIARY": str(folder / "diary"), "OMP_NUM_THREADS": "1"}


def snakemake(folder: Path, conda: dict[str, str], *arguments: str) -> str:
    configfile = folder / "run.yaml"
    configfile.write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "snakemake", *arguments, "--sdm", "conda", "--cores", "2"]
    command += ["--directory", str(folder), "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(configfile)]
    done = subprocess.run(command, env=conda, capture_output=True, text=True, timeout=600)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def activated(conda: dict[str, str]) -> set[str]:
    """Names of the environment files in which rules ran."""
    prefixes = {Path(line) for line in Path(conda["DIARY"]).read_text().splitlines() if line}
    contents = {(prefix.with_suffix(".yaml")).read_text() for prefix in prefixes}
    return {env.stem for env in ENVS if env.read_text() in contents}


def test_environments_are_created_and_activated(tmp_path: Path, conda: dict[str, str]) -> None:
    snakemake(tmp_path, conda, "--conda-create-envs-only")
    made = list((tmp_path / ".snakemake" / "conda").glob("*/pip.txt"))
    assert len(made) == len(USED)
    assert {file.read_text() for file in made} == {
        "".join(f"{k}=={v}\n" for k, v in read(env)[2].items()) for env in USED
    }
    snakemake(tmp_path, conda, "resources/raw/tones", "results/checkpoints/tiny.safetensors")
    assert activated(conda) == {"data", "torch"}


@pytest.mark.slow
def test_the_chain_runs_in_its_environments(tmp_path: Path, conda: dict[str, str]) -> None:
    snakemake(tmp_path, conda)
    assert (tmp_path / "results" / "table.csv").exists()
    assert activated(conda) == {env.stem for env in USED}


def test_a_pin_that_no_channel_has_is_named(tmp_path: Path, conda: dict[str, str]) -> None:
    env = tmp_path / "env.yaml"
    env.write_text("channels: [conda-forge, nodefaults]\ndependencies: [sox =99.9]\n")
    command = ["conda", "env", "create", "--file", str(env), "--prefix", str(tmp_path / "env")]
    done = subprocess.run(command, env=conda, capture_output=True, text=True)
    assert done.returncode and "sox" in done.stderr
