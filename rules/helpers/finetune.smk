# What the rules of finetune.smk ask.


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
    return cost.training_seconds(samples, cost.clip_seconds(clips), shape, rate)


def tuning_memory(wildcards):
    settings = tuning(wildcards)
    return cost.training_mb(
        model_shape(settings["backbone"]),
        cost.clip_seconds(config["datasets"][settings["dataset"]]),
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
