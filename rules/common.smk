# What the stages share: definitions by name, where files lie, shards and folds.
import re

from fungi_audio.files import sources
from fungi_audio.files.provenance import code_digest
from fungi_audio.models.definitions import presets
from fungi_audio.run.checks import fold_names
from fungi_audio.registry import REGISTRY, module


wildcard_constraints:
    dataset=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    backbone=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    feature=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    combination=r"[A-Za-z0-9+._-]+",
    fold=r"all|split|\d+",
    inputs=r"[A-Za-z0-9-]+",
    shard=r"\d+",
    clips=r"\d+",
    views=r"clean|views\d+",


PRETEXT = ("mpc", "mpg")  # objectives that are a backbone's own losses
CATEGORIES = {
    "report": "Report",
    "table": "Tables",
    "table_text": "Tables",
    "comparisons": "Tables",
    "scores": "Scores by fold",
    "predictions": "Predictions by fold",
    "answer": "Report",
    "map": "Maps",
    "clips": "Data",
    "folds": "Data",
    "skipped": "Data",
    "curves": "Training",
}


def dataset(wildcards):
    return config["datasets"][wildcards.dataset]


def backbone(wildcards):
    return config["backbones"][wildcards.backbone]


def feature(wildcards):
    return config["features"][wildcards.feature]


def family(wildcards):
    """What the family of a backbone says of itself (`models/FAMILY/definition.py`)."""
    return module("definition", backbone(wildcards)["family"])


def network_env(wildcards):
    """The environment of jobs that open a backbone; encoders of transformers have one of their own."""
    extra = backbone(wildcards)["family"] == "huggingface"
    return "../envs/huggingface.yaml" if extra else "../envs/torch.yaml"


def family_module(wildcards):
    return REGISTRY["family"][backbone(wildcards)["family"]]


def pretext_module(wildcards):
    """The module of the pretext losses, for features that are their gradients."""
    uses = feature(wildcards)["objective"] in PRETEXT
    return [REGISTRY["pretext"][backbone(wildcards)["family"]]] if uses else []


def folds(name):
    """The folds of a dataset that this run evaluates, as they stand in file names."""
    return fold_names(config["datasets"][name])


def places(name):
    """Where a backbone's checkpoint is downloaded from, each with the digest that a preset knows."""
    location = config["backbones"][name]["checkpoint"]
    preset = presets().get(location)
    return [*map(tuple, preset.places)] if preset else [(location, None)]


def checkpoint(wildcards):
    """Where a backbone's checkpoint lies: made by this run, downloaded, or a local file or folder."""
    location, name = backbone(wildcards)["checkpoint"], wildcards.backbone
    kind, _, made = location.partition(":")
    if kind == "pretrain":
        return f"results/pretrain/{made}/checkpoint.safetensors"
    if kind == "random":
        return f"results/checkpoints/{name}.safetensors"
    path = None if location in presets() else sources.local(location)
    if path:
        return str(path)
    file = sources.checkpoint_name(name, [place for place, _ in places(name)])
    return f"resources/checkpoints/{file}"


def repositories():
    """A pattern of the backbones whose downloaded checkpoint is a folder."""
    found = [name for name in config["backbones"] if is_folder(name)]
    return "|".join(map(re.escape, found)) or "(?!)"


def is_folder(name):
    places_ = [place for place, _ in places(name)]
    known = places_[0].startswith("hf:")
    return known and sources.checkpoint_name(name, places_) == name


def shape_of(name):
    """The shape of a backbone, for the cost model; one that this run pretrains is as its definition says."""
    definition = config["backbones"][name]
    named = definition["checkpoint"]
    kind, _, pretraining = named.partition(":")
    if kind == "pretrain":
        settings = config["pretrain"][pretraining]
        named = f"{settings['size']}-{settings['kind']}"
    return module("definition", definition["family"]).shape(definition, named)


def view_set(settings):
    """The inputs that a feature reads: the clean clip, or its augmented views."""
    return f"views{settings['views']}" if "views" in settings else "clean"


def view_count(views):
    return 1 if views == "clean" else int(views.removeprefix("views"))


def shard_count(name, views):
    return cost.shards(config["datasets"][name], view_count(views))


def part_count(name, feature):
    """Parts of a feature, one a job: as many as its pass over the clean clips, their views or masks needs."""
    settings = config["features"][feature]
    passes = settings.get("masks") or view_count(view_set(settings))
    return cost.shards(config["datasets"][name], passes)


def feature_fold(name, fold):
    """`all` for features that every fold shares; those with comparison clips belong to one fold."""
    return fold if "comparison_clips" in config["features"][name] else "all"


def feature_parts(dataset, backbone, feature, fold):
    """The Parquet parts of a feature as one fold sees it."""
    folder = (
        f"results/features/{dataset}/{backbone}/{feature}/{feature_fold(feature, fold)}"
    )
    return [
        f"{folder}/part-{shard}.parquet"
        for shard in range(part_count(dataset, feature))
    ]


def reported(path, caption, **labels):
    """An output that `snakemake --report` shows, with a caption of the folder report/ and its labels."""
    return report(
        path,
        caption=f"../report/{caption}.rst",
        category=CATEGORIES[caption],
        labels=labels,
    )
