# What the rules of apply.smk ask.
from types import SimpleNamespace
from fungi_audio.run.checks import tuning_and_fold

EMBEDDED_MB = 540  # embeddings written at once (`training.apply.embeddings`)


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


def model_shape(model):
    """The shape of whatever `model_file` takes."""
    if model.startswith("finetune:"):
        tuning, _ = tuning_and_fold(model)
        model = config["finetune"][tuning]["backbone"]
    if model in config["backbones"]:
        return shape_of(model)
    return ssast.shape({}, model)


def applied_seconds(model, name):
    """To place a dataset's audio, take its log-mels and encode them."""
    definition = config["datasets"][name]
    clips, seconds = cost.clips(definition), cost.clip_seconds(definition)
    return (
        cost.step_seconds("place", clips, cores=8)
        + cost.inputs_seconds(clips, seconds, cores=8)
        + cost.encode_seconds(clips, 1, seconds, model_shape(model), training_rate())
    )


def applied_memory(model, name):
    definition = config["datasets"][name]
    clips, seconds = cost.clips(definition), cost.clip_seconds(definition)
    network = cost.encode_mb(0, 1, seconds, model_shape(model))
    return network + cost.inputs_mb(clips, seconds, 100 * ssast.MEL, cores=8)


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


def embedding_seconds(wildcards):
    settings = embedding(wildcards)
    return applied_seconds(settings["model"], settings["dataset"])


def embedding_memory(wildcards):
    settings = embedding(wildcards)
    return applied_memory(settings["model"], settings["dataset"]) + 3 * EMBEDDED_MB


def transfer_seconds(wildcards):
    return applied_seconds(transfer(wildcards)["checkpoint"], wildcards.dataset)


def transfer_memory(wildcards):
    return applied_memory(transfer(wildcards)["checkpoint"], wildcards.dataset)
