"""FUNGI features of frozen audio backbones: self-supervised gradients as features.

    from fungi_audio import Extractor, load_audio

The names below are the public interface; they load on first use, so that light jobs stay light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Extractor": "api",
    "load_audio": "api",
    "load_backbone": "models.load",
    "FungiError": "errors",
    "read_features": "files.features",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_PUBLIC[name]}", __name__)
    return getattr(module, {"read_features": "read"}.get(name, name))
