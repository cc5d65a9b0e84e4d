"""What every rule's script does first: send output to the rule's log, show mistakes plainly, leave a record."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fungi_audio.errors import FungiError, out_of_memory, worker_died
from fungi_audio.files.locks import only_writer
from fungi_audio.files.provenance import write_record
from fungi_audio.files.whole import REASONS


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Run a rule's work with its output in the rule's log.

    On a terminal, stderr stays there for progress bars. What a person can act on (a `FungiError`, no memory, no
    space) ends the job with one message, in the log and on stderr, and no traceback; any other exception keeps
    its traceback in the log. A job left behind by a killed run may still write the same output: it is waited for.
    A job that ends well leaves a record of what made its output.
    """
    terminal = sys.stderr
    path = Path(snakemake.log[0])
    try:
        with only_writer(f"{path}.lock"), _log_to(path, terminal.isatty()):
            yield
            files = {name: list(map(str, getattr(snakemake, name))) for name in ("input", "output")}
            values = {"params": dict(snakemake.params.items()), "config": snakemake.config}
            write_record(path, rule=snakemake.rule, **files, **values)
    except Exception as error:
        if message := _explained(error):
            print(f"\n{snakemake.rule}: {message}\n(log: {path})", file=terminal, flush=True)
            sys.exit(1)
        raise


@contextmanager
def _log_to(path: Path, terminal: bool) -> Iterator[None]:
    with path.open("w", encoding="utf-8", buffering=1) as log:
        logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
        logging.captureWarnings(True)
        warnings.simplefilter("default")
        sys.stdout = log
        if not terminal:
            sys.stderr = log
        try:
            yield
        except BaseException as error:
            message = _explained(error)
            logging.error(message) if message else logging.exception("failed")
            raise


def _explained(error: BaseException) -> str:
    """What a person can do about it; "" for a defect."""
    if isinstance(error, FungiError):
        return str(error)
    if out_of_memory(error):
        return (
            f"memory ran out ({error}). Give the job more (--set-resources RULE:mem_mb=…), or run fewer jobs at once "
            "(a smaller --cores)"
        )
    if worker_died(error):
        return (
            f"a process that did a part of the work was killed, most likely because memory ran out ({error}). Give the "
            "job more memory (--set-resources RULE:mem_mb=…) or fewer processes (--set-threads RULE=1), and run again"
        )
    if isinstance(error, OSError) and error.errno in REASONS:
        return f"cannot write {error.filename or 'its output'}: {REASONS[error.errno]}"
    return ""
