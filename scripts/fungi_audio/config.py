"""The configuration: schema check, defaults, cross references."""

import copy
import difflib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from .datasets.source import locate
from .download import local_path
from .errors import ConfigError
from .presets import PRESETS
from .registry import REGISTRY
from .training.definitions import check_finetuning, check_pretraining

MADE = ("random", "pretrain")  # checkpoints that a run makes itself


def load(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """`check` with the schema of the workflow at `root`; the local files that the run names exist.

    Raises:
        ConfigError: as `check`; a source or checkpoint that is not there or not allowed.
    """
    config = check(config, root / "schemas" / "config.schema.yaml")
    for name in config["run"]["datasets"]:
        locate(name, config["datasets"][name], config["allow_http"])
    for name in config["run"]["backbones"]:
        _check_checkpoint(name, config["backbones"][name]["checkpoint"])
    return config


def _check_checkpoint(name: str, checkpoint: str) -> None:
    if checkpoint in PRESETS or checkpoint.partition(":")[0] in MADE:
        return
    path = local_path(checkpoint)
    if path and not path.is_file():
        raise ConfigError(
            f"config: backbones.{name}.checkpoint is {checkpoint!r}: no such file, "
            f"and no preset{_suggest(checkpoint, PRESETS)}. Presets: {', '.join(PRESETS)}"
        )


def check(config: dict[str, Any], schema: str | Path) -> dict[str, Any]:
    """A complete copy of `config`: defaults filled in, every name defined.

    Args:
        config: as merged by Snakemake from `config.yaml` and the files over it.
        schema: path of the JSON schema (YAML).

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    config = copy.deepcopy(config)
    errors = sorted(
        _validator(Path(schema)).iter_errors(config),
        key=lambda error: (len(error.absolute_path), str(error.absolute_path)),
    )
    if errors:
        raise ConfigError("config: " + _explain(errors[0]))
    _check_names(config)
    _check_trainings(config)
    return config


@cache
def _validator(schema: Path) -> Any:
    return _extended(jsonschema.Draft202012Validator)(yaml.safe_load(schema.read_text(encoding="utf-8")))


def _check_names(config: dict[str, Any]) -> None:
    for where, section, name in _references(config):
        defined = config[section]
        if name not in defined:
            raise ConfigError(
                f"config: {where} names {name!r}, which is not defined{_suggest(name, defined)}. "
                f"Defined: {', '.join(sorted(defined))}. Define it under `{section}:` or correct the name"
            )


def _check_trainings(config: dict[str, Any]) -> None:
    for section in ("pretrain", "finetune"):
        for name, definition in config[section].items():
            try:
                if section == "pretrain":
                    check_pretraining(definition, config["cluster"]["training_gpus"])
                else:
                    multilabel = config["datasets"][definition["dataset"]]["multilabel"]
                    check_finetuning(definition, multilabel, config["cluster"]["training_gpus"])
            except ConfigError as error:
                raise ConfigError(f"config: {section}.{name}: {error}") from error


def _references(config: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every name that the configuration uses: where, the section that must define it, the name."""
    for section, names in config["run"].items():
        yield from ((f"run.{section}", section, name) for name in names)
    for key, definition in config["backbones"].items():
        if definition["checkpoint"].startswith("pretrain:"):
            yield f"backbones.{key}.checkpoint", "pretrain", definition["checkpoint"].removeprefix("pretrain:")
    for key, definition in config["pretrain"].items():
        yield from ((f"pretrain.{key}.datasets", "datasets", name) for name in definition["datasets"])
    for key, definition in config["finetune"].items():
        yield f"finetune.{key}.dataset", "datasets", definition["dataset"]
        yield f"finetune.{key}.backbone", "backbones", definition["backbone"]
    for section in ("transfer", "embeddings"):
        for key, definition in config[section].items():
            yield f"{section}.{key}.dataset", "datasets", definition["dataset"]
            model = definition.get("model", definition.get("checkpoint"))
            if model.startswith("finetune:"):
                yield f"{section}.{key}", "finetune", model.removeprefix("finetune:").rpartition("/")[0]


def _extended(validator: Any) -> Any:
    """A validator that fills in `default:` of missing properties as it descends, and knows `registered:` names."""
    check_properties = validator.VALIDATORS["properties"]

    def properties(self: Any, schemas: dict[str, Any], instance: Any, schema: dict[str, Any]) -> Any:
        if isinstance(instance, dict):
            for key, rule in schemas.items():
                if "default" in rule:
                    instance.setdefault(key, copy.deepcopy(rule["default"]))
        yield from check_properties(self, schemas, instance, schema)

    def registered(self: Any, kind: str, instance: Any, schema: dict[str, Any]) -> Any:
        if instance not in list(REGISTRY[kind]):
            yield jsonschema.ValidationError(f"no such {kind}")

    return jsonschema.validators.extend(validator, {"properties": properties, "registered": registered})


def _explain(error: jsonschema.ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path)) or "top level"
    value = error.instance
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = next(key for key in value if key not in allowed)
        return f"unknown key {unknown!r} in {where}{_suggest(unknown, allowed)}. Allowed: {', '.join(allowed)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in value)
        return f"{where} lacks the key {missing!r}"
    allowed = error.schema.get("description", "")
    return f"{where} is {value!r}: {_expected(error)}" + (f" ({allowed})" if allowed else "")


def _expected(error: jsonschema.ValidationError) -> str:
    rule = error.validator_value
    match error.validator:
        case "enum":
            return "allowed: " + ", ".join(map(str, rule))
        case "registered":
            return f"allowed: {', '.join(REGISTRY[rule])}{_suggest(error.instance, REGISTRY[rule])}"
        case "type":
            return "expected " + " or ".join([rule] if isinstance(rule, str) else rule)
        case "minimum" | "exclusiveMinimum":
            return f"must be {'at least' if error.validator == 'minimum' else 'above'} {rule}"
        case "pattern":
            return f"must match {rule}"
        case _:
            return str(error.message)


def _suggest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
