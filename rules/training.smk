# What the rules of training ask: definitions, inputs, costs.
from types import SimpleNamespace

from fungi_audio.models.ssast.definition import PATCHES


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
    patch = PATCHES[settings["kind"]]
    return cost.Trunk(cost.WIDTHS[settings["size"]], patch=patch, stride=patch)


def pretrain_seconds(wildcards):
    settings, shape = pretraining(wildcards), pretrain_shape(wildcards)
    samples = settings["epochs"] * sum(
        cost.clips(config["datasets"][name]) for name in settings["datasets"]
    )
    passes = samples * (2 if settings["objective"] == "joint" else 1)
    rate = training_rate() * training_gpus()
    return cost.training_seconds(passes, settings["target_length"], shape, rate)


def pretrain_memory(wildcards):
    settings, shape = pretraining(wildcards), pretrain_shape(wildcards)
    at_once = settings["batch_size"] / settings["accumulate"]
    return cost.training_mb(
        shape,
        settings["target_length"],
        settings["batch_size"],
        processes=training_gpus(),
        kept=at_once if config["device"] == "cpu" else 0,
    )


def tuning(wildcards):
    return config["finetune"][wildcards.tuning]


def tuned(template):
    """A path with the dataset, backbone and input length of a fine-tuning definition filled in."""

    def path(wildcards):
        settings = tuning(wildcards)
        frames = config["datasets"][settings["dataset"]]["target_length"]
        return template.format(
            dataset=settings["dataset"], backbone=settings["backbone"], frames=frames
        )

    return path


def tuning_checkpoint(wildcards):
    return checkpoint(SimpleNamespace(backbone=tuning(wildcards)["backbone"]))


def tuning_seconds(wildcards):
    settings = tuning(wildcards)
    clips = config["datasets"][settings["dataset"]]
    shape = model_shape(settings["backbone"])
    samples = settings["epochs"] * cost.clips(clips)
    rate = training_rate() * training_gpus()
    return cost.training_seconds(samples, clips["target_length"], shape, rate)


def tuning_memory(wildcards):
    settings = tuning(wildcards)
    return cost.training_mb(
        model_shape(settings["backbone"]),
        config["datasets"][settings["dataset"]]["target_length"],
        settings["batch_size"],
        processes=training_gpus(),
        kept=settings["batch_size"] if config["device"] == "cpu" else 0,
    )


def compared_folds(wildcards):
    """The folds whose test scores choose the epoch: all of them by the published rule, else the fold itself."""
    settings = tuning(wildcards)
    return (
        folds(settings["dataset"])
        if settings["selection"] == "test"
        else [wildcards.fold]
    )


def finetuned(suffix):
    """One file for every fine-tuning definition of the run and fold of its dataset."""
    return [
        f"results/evaluation/{settings['dataset']}/{settings['backbone']}/finetune-{name}/{fold}.{suffix}"
        for name in config["run"]["finetune"]
        for settings in [config["finetune"][name]]
        for fold in folds(settings["dataset"])
    ]
