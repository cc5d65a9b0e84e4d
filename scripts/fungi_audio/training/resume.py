"""The training state on disk: all that a killed run needs to go on as if nothing had happened."""

import hashlib
import json
import logging
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError, ConfigError
from ..files.whole import whole

log = logging.getLogger(__name__)


def digest(arrays: Iterable[np.ndarray]) -> str:
    """One SHA-256 over types, shapes and values: what stands for data in a configuration."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def save(path: Path, configuration: dict[str, Any], state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, lists, dictionaries) and the generators of this process, whole or not at all.

    Args:
        configuration: what the run was asked for, as JSON values; `load` compares it.

    Raises:
        StorageError: disk full, quota, permissions.
    """
    generators = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    with whole(path) as part:
        torch.save({"configuration": json.dumps(configuration), "generators": generators, **state}, part)


def load(path: Path, configuration: dict[str, Any]) -> dict[str, Any] | None:
    """The state of a run with this configuration, its generators restored; None when there is none.

    Raises:
        ConfigError: the state belongs to another configuration; the differences are named.
        CheckpointError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = json.loads(state.pop("configuration"))
        generators = state.pop("generators")
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Delete it to start anew") from error
    wanted = json.loads(json.dumps(configuration))
    differing = [
        f"{key} was {saved.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]
    if differing:
        raise ConfigError(
            f"{path} is the state of an unfinished run with another configuration: {'; '.join(differing)}. "
            "Restore that configuration to finish the run, or delete the file to start anew"
        )
    torch.set_rng_state(generators["cpu"])
    if len(generators["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(generators["cuda"])
    log.info("going on after step %d of %s", state["step"], path)
    return dict(state)
