"""What the definitions of a configuration name (one another, folds, layers, files) is there, before a run begins."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..datasets.source import locate
from ..errors import ConfigError, suggest
from ..files.download import local_path
from ..files.sources import local
from ..models.definitions import presets
from ..models.ssast.definition import DEPTH, check_layer
from ..registry import REGISTRY, module

Config = Mapping[str, Any]
Key = tuple[str, str]  # section and name of a definition

RUN: Key = ("run", "")
SECTIONS = ("datasets", "backbones", "features", "pretrain", "finetune", "transfer", "embeddings")  # of definitions
TRAINABLE = "ssast"  # the family that trainings, transfer and embeddings of single layers know
FINE_TUNED = "finetune:"


class Reference(NamedTuple):
    """A definition names another: which one, under which key, and what."""

    origin: Key
    where: str
    target: Key


def check_names(config: Config) -> None:
    """Raises ConfigError when a definition names one that is not there."""
    for _, where, (section, name) in _references(config):
        defined = config[section]
        if name not in defined:
            raise ConfigError(
                f"config: {where} names {name!r}, which is not defined{suggest(name, defined)}. "
                f"Defined: {', '.join(sorted(defined))}. Define it under `{section}:` or correct the name"
            )


def check_run(config: Config) -> None:
    """All that the run needs exists and fits, as far as it can be told before anything is read.

    Raises:
        ConfigError: a file, fold or layer that is not there, a source that is not allowed, clips without labels.
    """
    for section, name in sorted(reached(config)):
        definition, key = config[section].get(name), f"config: {section}.{name}"
        match section:
            case "datasets":
                locate(name, definition, config["allow_http"])
            case "backbones":
                _check_backbone(key, definition, config["allow_http"])
            case "pretrain":
                for dataset in definition["datasets"]:
                    _check_trainable(key, dataset, "", config)
            case "finetune":
                _check_labels(key, definition["dataset"], config)
                _check_trainable(key, definition["dataset"], definition["backbone"], config)
                if isinstance(definition["layer"], int):
                    _explained(key, check_layer, definition["layer"], DEPTH)
            case "transfer":
                _check_labels(key, definition["dataset"], config)
                _check_model(f"{key}.checkpoint", definition["checkpoint"], config)
                _check_trainable(key, definition["dataset"], "", config)
            case "embeddings":
                own = definition["model"] if definition["model"] in config["backbones"] else ""
                if not own:
                    _check_model(f"{key}.model", definition["model"], config)
                _check_trainable(key, definition["dataset"], own, config)
                _check_embedded_layer(key, definition, config)
    for name in config["run"]["datasets"]:
        _check_labels("config: run.datasets", name, config)
    _check_readings(config)
    _check_frames(config)
    _check_pretext(config)


def reached(config: Config) -> set[Key]:
    """Section and name of every definition that the run needs, directly or through another one."""
    references = list(_references(config))
    found: set[Key] = set()
    new = {RUN}
    while new:
        found |= new
        new = {target for origin, _, target in references if origin in found} - found
    return found - {RUN}


def fold_names(definition: Mapping[str, Any]) -> list[str]:
    """The folds of a dataset's definition that are evaluated, as they stand in file names."""
    return [str(fold) for fold in definition.get("folds", [])] or ["split"]


def tuning_and_fold(model: str) -> tuple[str, str]:
    """The parts of ``finetune:NAME/FOLD``."""
    name, _, fold = model.removeprefix(FINE_TUNED).partition("/")
    return name, fold


def _references(config: Config) -> Iterator[Reference]:
    for key, names in config["run"].items():
        section = "backbones" if key == "frames" else key
        yield from (Reference(RUN, f"run.{key}", (section, name)) for name in names)
    for name, definition in config["backbones"].items():
        kind, _, made = definition["checkpoint"].partition(":")
        if kind == "pretrain":
            yield Reference(("backbones", name), f"backbones.{name}.checkpoint", ("pretrain", made))
    for section in ("pretrain", "finetune", "transfer", "embeddings"):
        for name, definition in config.get(section, {}).items():
            origin, where = (section, name), f"{section}.{name}"
            for dataset in definition.get("datasets") or [definition["dataset"]]:
                yield Reference(origin, where, ("datasets", dataset))
            model = definition.get("model", definition.get("checkpoint", definition.get("backbone", "")))
            if section == "finetune" or model in config["backbones"]:
                yield Reference(origin, where, ("backbones", model))
            elif model.startswith(FINE_TUNED):
                yield Reference(origin, where, ("finetune", tuning_and_fold(model)[0]))


def _check_backbone(key: str, definition: Mapping[str, Any], allow_http: bool) -> None:
    family = module("definition", definition["family"])
    _explained(key, family.check, definition)
    checkpoint = definition["checkpoint"]
    kind, _, name = checkpoint.partition(":")
    known = presets()
    if kind == "random" and name not in family.RANDOM:
        allowed = ", ".join(family.RANDOM) or f"none, {definition['family']} has no untrained networks"
        raise ConfigError(f"{key}.checkpoint: random:{name} is not a model; allowed: {allowed}")
    if kind == "http" and not allow_http:
        raise ConfigError(f"{key}.checkpoint is plain http; use https, or set `allow_http: true`")
    if checkpoint in known:
        if known[checkpoint].family != definition["family"]:
            raise ConfigError(
                f"{key}: {checkpoint} is a preset of another family; write `family: {known[checkpoint].family}`"
            )
        return
    if kind == "pretrain" and definition["family"] != TRAINABLE:
        raise ConfigError(f"{key}: pretrain:{name} trains a network of family {TRAINABLE}; write `family: {TRAINABLE}`")
    if kind in ("random", "pretrain"):
        return
    path = _explained(key, local, checkpoint)
    if path and not path.exists():
        raise ConfigError(
            f"{key}.checkpoint is {checkpoint!r}: no such file, "
            f"and no preset{suggest(checkpoint, known)}. Presets: {', '.join(known)}"
        )


def _check_readings(config: Config) -> None:
    """Every backbone of the run can read every dataset of the run."""
    for name in config["run"]["datasets"]:
        for backbone in config["run"]["backbones"]:
            definition = config["backbones"][backbone]
            read = module("definition", definition["family"]).reading
            _explained(f"config: datasets.{name}", read, definition, config["datasets"][name])


def _check_frames(config: Config) -> None:
    for name in config["run"]["frames"]:
        family = config["backbones"][name]["family"]
        if not module("definition", family).FRAMES:
            raise ConfigError(f"config: run.frames: {name} is of family {family}, which has no embeddings over time")


def _check_trainable(where: str, dataset: str, backbone: str, config: Config) -> None:
    """Raises ConfigError where another family than SSAST, or clips without a length, would fail in the job."""
    if backbone and config["backbones"][backbone]["family"] != TRAINABLE:
        family = config["backbones"][backbone]["family"]
        raise ConfigError(f"{where}: {backbone} is of family {family}; only {TRAINABLE} can be used here so far")
    if config["datasets"][dataset].get("target_length") is None:
        raise ConfigError(f"{where}: datasets.{dataset} has no target_length, the frames that every clip has here")


def _check_model(where: str, model: str, config: Config) -> None:
    """A model that this run fine-tunes, or a fine-tuned file."""
    if model.startswith(FINE_TUNED):
        name, fold = tuning_and_fold(model)
        dataset = config["finetune"][name]["dataset"]
        known = fold_names(config["datasets"][dataset])
        if fold not in known:
            raise ConfigError(
                f"{where} is {model!r}, but {dataset} has no fold {fold!r}; write {FINE_TUNED}{name}/FOLD with one "
                f"of {', '.join(known)}"
            )
        return
    path = local_path(model)
    if path is None or not path.is_file():
        names = [*config["backbones"], *(f"{FINE_TUNED}{name}/FOLD" for name in config["finetune"])]
        raise ConfigError(f"{where} is {model!r}: no such file and no model{suggest(model, names)}: {', '.join(names)}")


def _check_embedded_layer(key: str, definition: Mapping[str, Any], config: Config) -> None:
    layer, model = definition["layer"], definition["model"]
    if isinstance(layer, int):
        _explained(key, check_layer, layer, DEPTH)
        return
    tuned = config["finetune"][tuning_and_fold(model)[0]] if model.startswith(FINE_TUNED) else None
    if model in config["backbones"] or (tuned and layer == "weighted" and tuned["layer"] != "weighted"):
        raise ConfigError(f"{key}: layer: {layer} needs a model that was fine-tuned with it; {model} was not")
    if tuned and layer == "head" and tuned["head"]["hidden"] is None:
        raise ConfigError(f"{key}: layer: head is the head's dense layer, which {model} lacks (head.hidden)")


def _check_labels(where: str, dataset: str, config: Config) -> None:
    if config["datasets"][dataset]["layout"] == "folder":
        raise ConfigError(
            f"{where}: {dataset} has no labels (layout: folder), so that nothing can be evaluated; use it for "
            "pretraining and embeddings, or list its labels in a CSV (layout: csv)"
        )


def _check_pretext(config: Config) -> None:
    """Gradients of the pretext losses need the heads of the pretraining, behind the last block."""
    features = [name for name in config["run"]["features"] if config["features"][name]["objective"] in ("mpc", "mpg")]
    for name in config["run"]["backbones"] if features else []:
        definition = config["backbones"][name]
        where = f"config: run.features has {features[0]}, the gradient of a pretext loss, but backbones.{name}"
        if definition["family"] not in REGISTRY["pretext"]:
            raise ConfigError(f"{where} is of family {definition['family']}, which has none so far")
        if definition["checkpoint"].startswith("random:"):
            raise ConfigError(f"{where} has random weights without pretext heads; take a pretrained checkpoint")
        if definition["layer"] not in (-1, DEPTH - 1) or definition["target"] != "attn.proj":
            raise ConfigError(f"{where} has another layer or target; leave `layer` and `target` out for these features")


def _explained(where: str, check: Any, *values: Any) -> Any:
    try:
        return check(*values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
