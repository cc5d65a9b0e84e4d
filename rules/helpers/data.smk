# What the rules of data.smk ask.
import re
from pathlib import Path
from fungi_audio.datasets import stamps
from fungi_audio.datasets.source import locate


def source(wildcards):
    return locate(wildcards.dataset, dataset(wildcards), config["allow_http"])


def archive(wildcards):
    """The archive as published: downloaded, or a local file."""
    kind, location, name = source(wildcards)
    return (
        f"resources/downloads/{wildcards.dataset}/{name}" if kind == "url" else location
    )


def raw(wildcards):
    """The unpacked dataset: made by this run, or a folder of the user."""
    kind, location, _ = source(wildcards)
    return location if kind == "folder" else f"resources/raw/{wildcards.dataset}"


def layout_options(wildcards):
    return {
        key: dataset(wildcards)[key] for key in ("metadata", "columns", "multilabel")
    }


def metadata_stamps(wildcards):
    """What tells that the metadata in a folder of the user was edited; archives have a time of their own."""
    kind, location, _ = source(wildcards)
    return (
        stamps(Path(location), dataset(wildcards)["layout"], layout_options(wildcards))
        if kind == "folder"
        else None
    )


def layouts(synthetic):
    """A pattern of the names of datasets that are synthetic, or of those that are not."""
    names = [
        re.escape(name)
        for name, d in config["datasets"].items()
        if (d["layout"] == "synthetic") == synthetic
    ]
    return "|".join(names) or "(?!)"


def records(name):
    """What is made of a dataset for its own sake; no rule asks for it."""
    kind = locate(name, config["datasets"][name], config["allow_http"]).kind
    files = ["folds.txt", "audio_root.txt"]
    files += [f"datafiles/{fold}_train.json" for fold in folds(name)]
    files += ["archive.sha256"] if kind in ("url", "archive") else []
    return [f"results/{name}/{file}" for file in files]


def digests(name):
    """The same of a backbone, unless this run makes its checkpoint itself."""
    made = config["backbones"][name]["checkpoint"].startswith(("random:", "pretrain:"))
    return [] if made else [f"results/checkpoints/{name}.sha256"]
