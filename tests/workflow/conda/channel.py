"""A conda channel of a few hand-made packages, for tests without conda-forge."""

import asyncio
import hashlib
import io
import json
import tarfile
from pathlib import Path

from rattler.index import index_fs


def make_channel(folder: Path, packages: dict[str, dict[str, str]]) -> str:
    """Build a channel under `folder` and return its URL.

    Args:
        packages: `name=version` to the scripts that the package puts into the environment: path to content.
    """
    for subdir in ("noarch", "linux-64"):
        (folder / subdir).mkdir(parents=True)
    for package, scripts in packages.items():
        name, version = package.split("=")
        _write(folder / "linux-64" / f"{name}-{version}-0.tar.bz2", name, version, scripts)
    asyncio.run(index_fs(str(folder)))
    return folder.as_uri()


def _write(path: Path, name: str, version: str, scripts: dict[str, str]) -> None:
    index = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": [],
        "subdir": "linux-64",
        "arch": "x86_64",
        "platform": "linux",
    }
    paths = [
        {
            "_path": script,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "size_in_bytes": len(text.encode()),
        }
        for script, text in scripts.items()
    ]
    files = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{script}\n" for script in scripts),
        **scripts,
    }
    with tarfile.open(path, "w:bz2") as archive:
        for member, text in files.items():
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
