# What the rules of training and of trained models ask: definitions, inputs, costs.
from dataclasses import replace
from types import SimpleNamespace

from fungi_audio.patches import PATCHES


def pretraining(wildcards):
    return config["pretrain"][wildcards.pretraining]


def pretrain_files(template):
    """One file for each dataset of a pretraining definition."""
    return lambda wildcards: [
        template.format(dataset=name, frames=pretraining(wildcards)["target_length"])
        for name in pretraining(wildcards)["datasets"]
    ]


def pretrain_seconds(wildcards):
    settings = pretraining(wildcards)
    samples = settings["epochs"] * sum(
        cost.clips(config["datasets"][name]) for name in settings["datasets"]
    )
    passes = samples * (2 if settings["objective"] == "joint" else 1)
    patch = PATCHES[settings["kind"]]
    shape = cost.Trunk(cost.WIDTHS[settings["size"]], patch=patch, stride=patch)
    rate = cost.rate(config["cluster"], config["device"], cores=8)
    return cost.training_seconds(passes, settings["target_length"], shape, rate)


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
    shape = cost.trunk(config["backbones"][settings["backbone"]])
    rate = cost.rate(config["cluster"], config["device"], cores=8)
    return cost.training_seconds(
        settings["epochs"] * cost.clips(clips), clips["target_length"], shape, rate
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


def embedding(wildcards):
    return config["embeddings"][wildcards.embedding]


def transfer(wildcards):
    return config["transfer"][wildcards.transfer]


def model_file(model):
    """A backbone of the configuration, a model that this run fine-tunes (finetune:NAME/FOLD) or a file."""
    if model in config["backbones"]:
        return checkpoint(SimpleNamespace(backbone=model))
    if model.startswith("finetune:"):
        return f"results/finetune/{model.removeprefix('finetune:')}/model.safetensors"
    return model


def embedding_statistics(wildcards):
    """A backbone's inputs are normalised like the dataset's; a fine-tuned model brings its own statistics."""
    settings = embedding(wildcards)
    if settings["model"] not in config["backbones"]:
        return []
    name = settings["dataset"]
    return f"results/{name}/fbank-{config['datasets'][name]['target_length']}.json"


def transfers(suffix):
    """One file for every evaluation of a checkpoint on another dataset and fold of that dataset."""
    return [
        f"results/evaluation/{settings['dataset']}/{name}/transfer/{fold}.{suffix}"
        for name in config["run"]["transfer"]
        for settings in [config["transfer"][name]]
        for fold in folds(settings["dataset"])
    ]


def masked_seconds(wildcards):
    clips, _ = gradient_share(wildcards)
    trunk = cost.trunk(backbone(wildcards))
    shape = replace(trunk, stride=trunk.patch)
    rate = cost.rate(config["cluster"], config["device"], cores=8)
    masks = feature(wildcards)["masks"]
    return cost.encode_seconds(
        clips, masks, dataset(wildcards)["target_length"], shape, rate
    )
