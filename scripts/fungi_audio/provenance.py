"""What made an artifact: digests of the code that computes it, versions of what it ran with."""

import ast
import hashlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path

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
