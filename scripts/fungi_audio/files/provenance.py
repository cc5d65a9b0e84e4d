"""What made an artifact: digests of the code that computes it, versions of what it ran with, a record a job."""

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from .whole import write_text

RECORDS = Path("results/provenance")
PACKAGE = "fungi_audio"
REGISTRY = "registry"  # the names of layouts, families and objectives
ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "torchaudio", "timm", "numpy", "scikit-learn", "pyarrow", "pandas")


def code_digest(*modules: str) -> str:
    """Digest of modules of this package and of the package's modules that they import.

    Comments, formatting, docstrings, where a module lies and how it imports others of the package do not count: moving
    a file redoes nothing, changing a constant in it does. The registry does not count either: a new backbone must
    not look like a change of the old ones. Snakemake does not see imported modules, so every rule passes this as a
    param.

    Args:
        modules: dotted names below the package, e.g. ``"objectives.kl"``.
    """
    pending, sources = set(modules), {}
    while pending:
        name = pending.pop()
        sources[name], imports = _read_module(name)
        pending |= imports - sources.keys()
    text = "\n".join(sorted(source for source in sources.values() if source))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _read_module(name: str) -> tuple[str, frozenset[str]]:
    """The code of a module without its imports from this package, and the names of what these import."""
    path = _file(name)
    assert path, f"no module {name}"
    imports = _Imports(name if path.stem == "__init__" else name.rpartition(".")[0])
    tree = imports.visit(_without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
    return "\n".join(map(ast.dump, tree.body)), frozenset(imports.found - {REGISTRY})


class _Imports(ast.NodeTransformer):
    """Takes the imports from this package out of a module of `package` and collects what they name."""

    def __init__(self, package: str) -> None:
        self.package, self.found = package, set[str]()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        words = (node.module or "").split(".")
        if node.level:
            parents = self.package.split(".")
            words = parents[: len(parents) - node.level + 1] + words
        elif words[0] == PACKAGE:
            words = words[1:]
        else:
            return node
        base = ".".join(filter(None, words))
        candidates = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        self.found |= {name for name in candidates if name and _file(name)}
        return None


def _file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:]
    return tree


def versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str | None:
    """The git commit of a checkout, with a word when it was changed since; None outside one."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (" with local changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def shown(url: str) -> str:
    """A URL without what may be secret (user, password, query), for messages."""
    return re.sub("://[^/?#]*@", "://", re.split("[?#]", url)[0])


def masked(url: str) -> str:
    """A URL for records: as `shown`, and of its query the names; of the values only those that are ``${NAME}``."""
    query = url.partition("#")[0].partition("?")[2]
    parts = []
    for part in query.split("&"):
        name, sign, value = part.partition("=") if "=" in part else ("", "", part)
        parts.append(name + sign + (value if re.fullmatch(r"(\$\{\w+\})?", value) else "..."))
    return shown(url) + (f"?{'&'.join(parts)}" if query else "")


def without_secrets(value: Any) -> Any:
    """JSON values with every URL as `masked`."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) and "://" in value else value


def write_record(log: Path, **job: Any) -> None:
    """What made a job's outputs, as JSON below `RECORDS`; `trace` reads it.

    Args:
        log: of the job, ``logs/….log``, which no other job has.
        job: `rule`, `output`, `input` (lists of paths), `params`, `config`: JSON values.
    """
    torch: Any = sys.modules.get("torch")
    gpu = torch and torch.cuda.is_initialized()
    made = without_secrets(job) | {
        "commit": commit(ROOT),
        "versions": {"Python": platform.python_version()} | versions(),
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "machine": f"{socket.gethostname()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}",
    }
    text = json.dumps(made, ensure_ascii=False, default=str)
    write_text(record_of(log), text + "\n")


def record_of(log: Path) -> Path:
    """Where the record of the job with this log stands, once it has ended well."""
    return RECORDS / log.relative_to("logs").with_suffix(".json")
