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

from .files import write_text

RECORDS = Path("results/provenance")
PACKAGE = "fungi_audio"
ROOT = Path(__file__).parent
LIBRARIES = ("torch", "torchaudio", "timm", "numpy", "scikit-learn", "pyarrow", "pandas")


def code_digest(*modules: str) -> str:
    """Digest of modules of this package and of the package's modules that they import.

    Comments, formatting and docstrings do not count, and neither do `__init__` files (registries): a
    new backbone must not look like a change of the old ones. Snakemake does not see imported modules,
    so every rule passes this as a param.

    Args:
        modules: dotted names below the package, e.g. ``"objectives.kl"``.
    """
    pending, sources = set(modules), {}
    while pending:
        name = pending.pop()
        source, imports = _read_module(name)
        sources[name] = source
        pending |= imports - sources.keys()
    text = "\n".join(f"{name}\n{sources[name]}" for name in sorted(sources))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _read_module(name: str) -> tuple[str, frozenset[str]]:
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imports |= set(_imported(node, name))
    return ast.dump(_without_docstrings(tree)), frozenset(imports)


def _imported(node: ast.ImportFrom, importer: str) -> list[str]:
    """The package's modules that a `from … import …` statement names."""
    if node.level:
        parents = importer.split(".")[: -node.level]
        base = [*parents, *(node.module or "").split(".")]
    elif (node.module or "").split(".")[0] == PACKAGE:
        base = (node.module or "").split(".")[1:]
    else:
        return []
    base = [part for part in base if part]
    candidates = [base, *([*base, alias.name] for alias in node.names)]
    return [".".join(c) for c in candidates if c and ROOT.joinpath(*c).with_suffix(".py").is_file()]


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
