"""What every rule's script does first: send output to the rule's log, show mistakes plainly."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fungi_audio.errors import FungiError
from fungi_audio.locks import only_writer


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Run a rule's work with its output in the rule's log.

    On a terminal, stderr stays there for progress bars. A `FungiError` ends the job with its message,
    in the log and on stderr, and no traceback; any other exception keeps its traceback in the log.
    A job left behind by a killed run may still write the same output: it is waited for.
    """
    terminal = sys.stderr
    path = Path(snakemake.log[0])
    with only_writer(f"{path}.lock"), path.open("w", encoding="utf-8", buffering=1) as log:
        logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
        logging.captureWarnings(True)
        warnings.simplefilter("default")
        sys.stdout = log
        if not terminal.isatty():
            sys.stderr = log
        try:
            yield
        except FungiError as error:
            message = f"{snakemake.rule}: {error}"
            logging.error(message)
            print(f"\n{message}\n(log: {snakemake.log[0]})", file=terminal, flush=True)
            sys.exit(1)
        except BaseException:
            logging.exception("%s failed", snakemake.rule)
            raise
