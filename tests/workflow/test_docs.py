"""The documentation: its site builds, its links hold, its reference is current, its examples run."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import save_file
from snakemake.utils import update_config

from fungi_audio.models.ssast import network as ssast
from fungi_audio.run.config import check

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROJECT = ["Snakefile", "config.yaml", "rules", "schemas", "scripts", "envs", "report", "configs"]
KEYWORDS = """$defs $ref $schema additionalProperties allOf anyOf const default description enum exclusiveMaximum
exclusiveMinimum if items maxItems maxLength maximum minItems minLength minimum not pattern properties propertyNames
familyOptions registered required then title type uniqueItems"""


class Block(NamedTuple):
    """A fenced block of a page: its language, its first line when that is a comment, its text."""

    language: str
    head: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Block(language, body.partition("\n")[0].removeprefix("# ") if body.startswith("# ") else "", body)
        for language, body in BLOCK.findall(text)
    ]


def load_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Project:
    """A copy of the project in a folder of its own, with a few recordings, to run a page in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PROJECT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "scripts"),
            "OMP_NUM_THREADS": "1",
        }
        write_recordings(folder / "recordings")

    def run(self, *command: str) -> str:
        """What a command prints, both streams."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def follow(self, block: Block) -> str:
        """Do what a block of a page says: write its file, or run it."""
        if block.language == "yaml":
            (self.folder / block.head).write_text(block.text, encoding="utf-8")
            return ""
        if block.language == "python":
            return self.run(sys.executable, "-c", block.text)
        return "".join(self.run("bash", "-c", line) for line in block.text.splitlines())


def write_recordings(folder: Path) -> None:
    """24 clips of about a second, two classes: a low and a high tone in noise; WAV and FLAC."""
    random = np.random.default_rng(0)
    for label, pitch in [("robin", 3000), ("wren", 600)]:
        (folder / label).mkdir(parents=True)
        for number in range(12):
            time = np.arange(random.integers(12_000, 24_000)) / 22_050
            sound = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * random.standard_normal(len(time))
            suffix = "flac" if label == "wren" and number == 0 else "wav"
            soundfile.write(folder / label / f"{number}.{suffix}", sound, 22_050)
    resampled = soundfile.read(folder / "robin" / "0.wav")[0][: 16_000 // 2]
    for name in ("robin/0.wav", "wren/1.wav"):
        soundfile.write(folder / name, resampled, 16_000)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """A project in which the tutorial was followed, and what each block printed."""
    project = Project(tmp_path_factory.mktemp("tutorial"))
    return project, [project.follow(block) for block in blocks("tutorial.md")]


@pytest.mark.xdist_group("tutorial")
def test_tutorial(tutorial: tuple[Project, list[str]]) -> None:
    project, said = tutorial
    results = project.folder / "results"
    assert (results / "table.md").is_file() and (results / "report.html").is_file()
    assert "(24, 192) kl {'temperature': 15}" in "".join(said)
    change, real = [text for text in said if text][-2:]
    assert "evaluate" in change and not re.search(r"^(inputs|encode|feature|resample) ", change, re.MULTILINE)
    assert re.search(r"^encode ", real, re.MULTILINE)
    assert not re.search(r"^(inputs|resample|index) ", real, re.MULTILINE)


@pytest.mark.xdist_group("tutorial")
def test_examples_of_formats(tutorial: tuple[Project, list[str]]) -> None:
    """They read the tutorial's results; an example of a library that is not installed is left out."""
    for block in blocks("formats.md"):
        libraries = [name for name in ("polars", "duckdb") if f"import {name}" in block.text]
        if all(importlib.util.find_spec(name) for name in libraries):
            tutorial[0].follow(block)


@pytest.mark.parametrize("page", ["README.md", "docs/questions.md"])
def test_examples_of_the_library(tmp_path: Path, page: str) -> None:
    """Run with a tiny checkpoint under the names that the pages use."""
    state = ssast.random_state("tiny-patch", seed=0)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "SSAST-Base-Patch-400.pth")
    save_file(state, tmp_path / "checkpoint.safetensors")
    for name in ("a", "b", "c", "d", "clip"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1"}
    examples = [text for language, text in BLOCK.findall((ROOT / page).read_text()) if language == "python"]
    assert examples
    for text in examples:
        command = [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The project with the three examples of the page in it, and what running them printed."""
    project = Project(tmp_path_factory.mktemp("extended"))
    registry = project.folder / "scripts/fungi_audio/registry.py"
    printed = ""
    for block in blocks("extending.md"):
        path, _, kind = block.head.partition(": ")
        if kind:
            opening = f'    "{kind}": {{\n'
            assert registry.read_text().count(opening) == 1
            line = block.text.partition("\n")[2]
            registry.write_text(registry.read_text().replace(opening, opening + line))
        elif path.startswith("scripts/"):
            assert not (project.folder / path).exists()
            (project.folder / path).parent.mkdir(exist_ok=True)
            (project.folder / path).write_text(block.text)
        else:
            printed += project.follow(block)
    return project, printed


@pytest.mark.xdist_group("extending")
def test_examples_of_extending(extended: tuple[Project, str]) -> None:
    project, printed = extended
    assert "wren/0.flac" in printed
    assert "{'embedding': (2, 64), 'kl': (2, 64)}" in printed
    plan = project.run("snakemake", "-n", "--quiet", "reason", "--configfile", "all-three.yaml")
    assert re.search(r"^feature +2$", plan, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.xdist_group("extending")
def test_run_of_extending(extended: tuple[Project, str]) -> None:
    project, _ = extended
    project.run("snakemake", "--cores", "2", "--configfile", "all-three.yaml")
    assert "guess" in (project.folder / "results/table.md").read_text()


def test_configuration_reference_is_current() -> None:
    generate = load_module("generate")
    page = generate.reference(yaml.safe_load(generate.SCHEMA.read_text(encoding="utf-8")))
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == page, "run `make docs` and commit the page"


def test_schema_has_no_stray_keyword() -> None:
    """An unquoted comma in a description would end it and make the rest a keyword."""

    def rules(rule: Any) -> Iterator[dict[str, Any]]:
        if not isinstance(rule, dict):
            return
        yield rule
        for key, value in rule.items():
            children = value.values() if key in ("properties", "$defs") else value if key.endswith("Of") else [value]
            for child in children if isinstance(value, dict | list) and key not in ("default", "enum") else []:
                yield from rules(child)

    schema = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text(encoding="utf-8"))
    assert {key for rule in rules(schema) for key in rule} <= set(KEYWORDS.split())


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Broken links and pages missing from the navigation are warnings; nothing is loaded from elsewhere."""
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not included in the" not in done.stderr, done.stderr
    for page in tmp_path.glob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//", html), page
    assert "<math" in (tmp_path / "method.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_front_pages(page: str) -> None:
    """Relative links exist, and so do the anchors they name."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in sorted(DOCS.glob("*.md")))])
def test_yaml_of_a_page_is_a_configuration(page: str) -> None:
    """Keys and values that a page shows are those that the schema knows, each block laid over those before it."""
    if page == "docs/extending.md":
        pytest.skip("its names are registered by the page itself; test_examples_of_extending plans a run of it")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "yaml":
            update_config(config, yaml.safe_load(text))
            check(config, ROOT / "schemas/config.schema.yaml")


def test_every_requirement_has_a_reason() -> None:
    named = set(re.findall(r"`([\w.-]+)`", (DOCS / "dependencies.md").read_text(encoding="utf-8")))
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").split()
    assert {re.split(r"[=<>~]", line)[0] for line in lines} <= named


def test_citation_file() -> None:
    """Fields that every reader of the format needs."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= reference.keys(), reference["title"]
        assert reference.keys() & {"doi", "url"}, reference["title"]
        assert all({"family-names", "given-names"} <= author.keys() for author in reference["authors"])
