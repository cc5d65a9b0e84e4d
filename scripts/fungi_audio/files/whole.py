"""Files appear whole or not at all."""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StorageError

REASONS = {
    errno.ENOSPC: "no space left on the device; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; check the owner and mode of the folder",
    errno.EPERM: "permission denied; check the owner and mode of the folder",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a `StorageError` that names it."""
    try:
        yield
    except OSError as error:
        reason = REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise StorageError(f"cannot write {path}: {reason}") from error


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`; renamed to `path` when the block ends well.

    The content is flushed to disk before the rename and the folder after it, so that a crash at any
    moment leaves the old file, the new file or none, never a part. On an error the temporary file is
    removed; after a kill, by the next attempt.

    Raises:
        StorageError: disk full, quota, read-only folder or no permission.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{glob.escape(path.name[:100])}.{8 * '?'}.part"):
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        os.close(handle)
    part = Path(name)
    try:
        with storage_errors(path):
            yield part
            part.chmod(0o666 & ~current_umask())
            sync(part)
            part.replace(path)
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike[str], resume: bool = False) -> Iterator[Path]:
    """A folder beside `path` to work in; it replaces `path` when the block ends well.

    Args:
        resume: begin with what an interrupted attempt left behind and leave the folder there on an error;
            otherwise it is empty at the start and removed on an error.

    Raises:
        StorageError: disk full, quota, read-only folder or no permission.
    """
    path = Path(path)
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    with storage_errors(path):
        if part.exists() and not resume:
            shutil.rmtree(part)
        part.mkdir(parents=True, exist_ok=True)
    try:
        with storage_errors(path):
            yield part
            os.sync()
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            part.rename(path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if not resume:
            shutil.rmtree(part, ignore_errors=True)
        raise


def put(source: Path, target: Path, link: bool) -> None:
    """Make `target` a hard link to `source`, or a copy where `link` is false or the file system has no links."""
    with beside(target) as part:
        try:
            if not link:
                raise OSError
            part.hardlink_to(source)
        except OSError:
            shutil.copy2(source, part)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A temporary path that replaces `target` when the block ends well, like `whole` but not flushed to disk.

    Its name is unique: several jobs may bring the same file at once.
    """
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content; of a folder's files, as ``LC_ALL=C sha256sum * | sha256sum``."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        lines = (f"{sha256(file)}  {file.name}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
