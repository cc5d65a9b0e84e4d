# URL, archive or folder of a dataset -> raw folder. A local archive or folder is used where it is.
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


# No code digest: a change of the downloader is no reason to download again.
rule download:
    output:
        "resources/downloads/{dataset}/{archive}",
    log:
        "logs/download/{dataset}-{archive}.log",
    benchmark:
        "results/benchmarks/download/{dataset}-{archive}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
        archive="[A-Za-z0-9._-]+",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(3600),
    params:
        url=lambda wildcards: source(wildcards).location,
    script:
        "../scripts/download.py"


# Pinning the digest afterwards runs this and nothing else, since no rule asks for it; `update` keeps the last good
# output when the digest is wrong. Unpacking checks the archive too.
rule checksum:
    input:
        archive,
    output:
        update("results/{dataset}/archive.sha256"),
    log:
        "logs/checksum/{dataset}.log",
    benchmark:
        "results/benchmarks/checksum/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
    localrule: LIGHT
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(
            lambda wildcards: cost.step_seconds(
                "unpack", cost.clips(dataset(wildcards)), cores=1
            )
        ),
    params:
        sha256=lambda wildcards: dataset(wildcards)["sha256"],
    script:
        "../scripts/checksum.py"


rule unpack:
    input:
        archive,
    output:
        directory("resources/raw/{dataset}"),
    log:
        "logs/unpack/{dataset}.log",
    benchmark:
        "results/benchmarks/unpack/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **step("unpack", cores=1),
    params:
        max_gigabytes=lambda wildcards: dataset(wildcards)["max_gigabytes"],
        code=code_digest("files.archives"),
    script:
        "../scripts/unpack.py"


rule synthesise:
    output:
        directory("resources/raw/{dataset}"),
    log:
        "logs/synthesise/{dataset}.log",
    benchmark:
        "results/benchmarks/synthesise/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=True),
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        **step("synthesise", cores=8),
    params:
        clips=lambda wildcards: cost.clips(dataset(wildcards)),
        seed=config["seed"],
        code=code_digest("datasets.synthetic"),
    script:
        "../scripts/synthesise.py"
