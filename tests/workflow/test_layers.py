"""Arrows go one way: no package imports one above it, and what the DAG is built with imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.workflow import ROOT

PACKAGE = ROOT / "scripts" / "fungi_audio"
LAYERS = [  # from the ground up; the names of a line do not import one another
    {"errors", "seeds", "progress"},
    {"registry", "randomness", "parallel"},
    {"files"},
    {"audio"},
    {"frontends", "datasets"},
    {"models"},
    {"engine"},
    {"objectives", "evaluate"},
    {"training"},
    {"run"},
    {"report"},
    {"api", "compare", "trace"},
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
TORCH_FREE = ["run.config", "run.cost", "run.cluster", "frontends", "models.definitions", "files.sources", "datasets"]


def imports() -> set[tuple[str, str]]:
    """What imports what, by package or top-level module of the library."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == len(parts):
                words = (node.module or "").split(".")
                targets = [words[0]] if words[0] else [alias.name for alias in node.names]
                found |= {(parts[0], target) for target in targets}
    return {(one, other) for one, other in found if one not in (other, "__init__")}


def test_every_package_has_its_place() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__pycache__"} == HEIGHT.keys()


def test_no_arrow_goes_up() -> None:
    up = sorted(f"{one} -> {other}" for one, other in imports() if HEIGHT[one] <= HEIGHT[other])
    assert not up, f"these import a package above or beside them: {', '.join(up)}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_the_dag_imports_no_torch(name: str) -> None:
    code = f"import sys, fungi_audio.{name}; sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert not subprocess.run(command, cwd=Path("/"), env={"PYTHONPATH": str(ROOT / "scripts")}).returncode
