"""The configuration: schema check, defaults, definitions that contradict themselves."""

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ..errors import ConfigError, suggest
from ..models.definitions import presets
from ..registry import REGISTRY, module
from ..training.definitions import check_finetuning, check_pretraining
from .checks import check_names, check_run


def load(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """`check` with the schema of the workflow at `root`, then `checks.check_run`.

    Raises:
        ConfigError: as these two.
    """
    config = check(config, root / "schemas" / "config.schema.yaml")
    check_run(config)
    return config


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
    _check_finite(config)
    check_names(config)
    _check_trainings(config)
    return config


@cache
def _validator(schema: Path) -> Any:
    return _extended(jsonschema.Draft202012Validator)(yaml.safe_load(schema.read_text(encoding="utf-8")))


def _check_finite(value: Any, where: str = "") -> None:
    """YAML has `.nan` and `.inf`, which no range of the schema catches."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"config: {where} is {value}: expected a finite number")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else []):
        _check_finite(inner, f"{where}.{key}".lstrip("."))


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


def _extended(validator: Any) -> Any:
    """A validator that fills in `default:` of missing properties as it descends.

    It knows `registered:` names, and that a definition takes the options of its family (`familyOptions:`).
    """
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

    def family_options(self: Any, _: bool, instance: Any, schema: dict[str, Any]) -> Any:
        if isinstance(instance, dict) and instance.get("family") in list(REGISTRY["definition"]):
            known = schema["properties"] | module("definition", instance["family"]).OPTIONS
            preset = presets().get(str(instance.get("checkpoint")))
            if preset and preset.family == instance["family"]:
                instance.update({**preset.options, **instance})
            yield from self.descend(instance, {"properties": known, "additionalProperties": False})

    rules = {"properties": properties, "registered": registered, "familyOptions": family_options}
    return jsonschema.validators.extend(validator, rules)


def _explain(error: jsonschema.ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path)) or "top level"
    value = error.instance
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = next(key for key in value if key not in allowed)
        return f"unknown key {unknown!r} in {where}{suggest(unknown, allowed)}. Allowed: {', '.join(allowed)}"
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
            return f"allowed: {', '.join(REGISTRY[rule])}{suggest(error.instance, REGISTRY[rule])}"
        case "type":
            return "expected " + " or ".join([rule] if isinstance(rule, str) else rule)
        case "minimum" | "exclusiveMinimum":
            return f"must be {'at least' if error.validator == 'minimum' else 'above'} {rule}"
        case "pattern":
            return f"must match {rule}"
        case _:
            return str(error.message)
