# What the rules of train.smk ask.
from types import SimpleNamespace
from fungi_audio.models.ssast import definition as ssast


def pretraining(wildcards):
    return config["pretrain"][wildcards.pretraining]


def pretrain_files(template):
    """One file for each dataset of a pretraining definition."""
    return lambda wildcards: [
        template.format(dataset=name, frames=pretraining(wildcards)["target_length"])
        for name in pretraining(wildcards)["datasets"]
    ]


def training_rate():
    """Operations per second of one GPU, or of a job's eight cores."""
    return cost.rate(config["cluster"], config["device"], cores=8)


def training_gpus():
    """Processes that train together, one a GPU."""
    return 1 if config["device"] == "cpu" else config["cluster"]["training_gpus"]


def pretrain_shape(wildcards):
    settings = pretraining(wildcards)
    patch = ssast.PATCHES[settings["kind"]]
    return ssast.trunk(ssast.WIDTHS[settings["size"]], patch, patch)


def pretrain_seconds(wildcards):
    settings, shape = pretraining(wildcards), pretrain_shape(wildcards)
    samples = settings["epochs"] * sum(
        cost.clips(config["datasets"][name]) for name in settings["datasets"]
    )
    passes = samples * (2 if settings["objective"] == "joint" else 1)
    rate = training_rate() * training_gpus()
    return cost.training_seconds(passes, settings["target_length"] / 100, shape, rate)


def pretrain_memory(wildcards):
    settings, shape = pretraining(wildcards), pretrain_shape(wildcards)
    at_once = settings["batch_size"] / settings["accumulate"]
    return cost.training_mb(
        shape,
        settings["target_length"] / 100,
        settings["batch_size"],
        processes=training_gpus(),
        kept=at_once if config["device"] == "cpu" else 0,
    )
