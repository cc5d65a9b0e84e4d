"""One writer at a time, on any file system, whatever became of the process that started it."""

import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StorageError
from .whole import storage_errors

POLL_SECONDS = 2.0
TAKEN = (errno.EAGAIN, errno.EACCES)

log = logging.getLogger(__name__)


@contextmanager
def only_writer(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock file `path`; wait while another process holds it.

    A run whose head process was killed leaves jobs behind. When it is started again, the new job waits
    here until the one left behind has ended, and two never write the same file.

    The lock is an `flock`, which the kernel frees when its owner dies. It reaches other hosts on NFS,
    GPFS and most Lustre mounts. Where it does not, the owner's host and Slurm job, written in the file,
    tell: a job that squeue still lists keeps the lock.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _acquire(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _acquire(path: Path) -> int:
    waiting = False
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        locked = _flock(file)
        if locked and not _is_still(path, file):
            os.close(file)
            continue
        owner = os.pread(file, 4096, 0)
        if locked and not _held_elsewhere(owner):
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(_me()).encode(), 0)
            os.fsync(file)
            return file
        os.close(file)
        if not waiting:
            log.warning("waiting for %s, which still writes the same output (%s)", _name(owner), path)
            waiting = True
        time.sleep(POLL_SECONDS)


def _flock(file: int) -> bool:
    """Take the lock at once, or say no. A file system without locks says yes."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in TAKEN
    return True


def _is_still(path: Path, file: int) -> bool:
    """Whether `path` is the open file, not a newer one made after the owner removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _me() -> dict[str, str]:
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "slurm": os.environ.get("SLURM_JOB_ID", "")}


def _held_elsewhere(owner: bytes) -> bool:
    """Whether the owner written in the lock file is another host's Slurm job that has not ended."""
    them, me = _read(owner), _me()
    if them["host"] == me["host"] or them["slurm"] in ("", me["slurm"]) or not shutil.which("squeue"):
        return False
    answer = subprocess.run(["squeue", "-h", "-o", "%T", "-j", them["slurm"]], capture_output=True, text=True)
    if answer.returncode and "invalid job id" not in answer.stderr.lower():
        raise StorageError(
            f"cannot tell whether Slurm job {them['slurm']} on {them['host']} still writes the same output: "
            f"squeue says {answer.stderr.strip()!r}. Run again when Slurm answers"
        )
    return bool(answer.stdout.strip())


def _read(owner: bytes) -> dict[str, str]:
    """The owner written in a lock file, as `_me`; empty words where the file was cut short or damaged."""
    try:
        them = json.loads(owner)
    except (ValueError, RecursionError):
        them = None
    return {key: str(them.get(key, "")) if isinstance(them, dict) else "" for key in _me()}


def _name(owner: bytes) -> str:
    them = _read(owner)
    if not them["host"]:
        return "another process"
    return (
        f"Slurm job {them['slurm']} on {them['host']}" if them["slurm"] else f"process {them['pid']} on {them['host']}"
    )
