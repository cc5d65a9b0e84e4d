# A pretrained backbone and labelled clips -> a fine-tuned checkpoint a fold -> rows of the results table.


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


wildcard_constraints:
    tuning=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    pretraining=r"[A-Za-z0-9][A-Za-z0-9._-]*",


rule finetune:
    input:
        clips=tuned("results/{dataset}/clips.parquet"),
        classes=tuned("results/{dataset}/classes.csv"),
        fbank=tuned("results/{dataset}/fbank-{frames}.npy"),
        statistics=tuned("results/{dataset}/fbank-{frames}.json"),
        audio=tuned("resources/audio/{dataset}"),
        checkpoint=tuning_checkpoint,
    output:
        model="results/finetune/{tuning}/{fold}/model.safetensors",
        scores="results/finetune/{tuning}/{fold}/test.safetensors",
        curves="results/finetune/{tuning}/{fold}/curves.csv",
        plots=[
            reported(
                "results/finetune/{tuning}/{fold}/curves.svg",
                "curves",
                run="{tuning}",
                fold="{fold}",
            ),
            "results/finetune/{tuning}/{fold}/curves.png",
        ],
    log:
        "logs/finetune/{tuning}/{fold}.log",
    benchmark:
        "results/benchmarks/finetune/{tuning}/{fold}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(tuning_seconds, tuning_memory, gpus=training_gpus(), resumes=True),
    params:
        settings=tuning,
        stride=lambda wildcards: config["backbones"][tuning(wildcards)["backbone"]][
            "stride"
        ],
        multilabel=lambda wildcards: config["datasets"][tuning(wildcards)["dataset"]][
            "multilabel"
        ],
        statistics=lambda wildcards: [
            config["datasets"][tuning(wildcards)["dataset"]][key]
            for key in ("mean", "std")
        ],
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=code_digest("training.fold", "training.publish"),
    script:
        "../scripts/finetune.py"


rule finetune_scores:
    input:
        clips="results/{dataset}/clips.parquet",
        model="results/finetune/{tuning}/{fold}/model.safetensors",
        scores=lambda wildcards: expand(
            "results/finetune/{tuning}/{fold}/test.safetensors",
            tuning=wildcards.tuning,
            fold=compared_folds(wildcards),
        ),
    output:
        scores=reported(
            "results/evaluation/{dataset}/{backbone}/finetune-{tuning}/{fold}.csv",
            "scores",
            dataset="{dataset}",
            backbone="{backbone}",
            features="finetune-{tuning}",
            fold="{fold}",
        ),
        predictions=reported(
            "results/evaluation/{dataset}/{backbone}/finetune-{tuning}/{fold}.predictions.parquet",
            "predictions",
            dataset="{dataset}",
            backbone="{backbone}",
            features="finetune-{tuning}",
            fold="{fold}",
        ),
    log:
        "logs/finetune_scores/{dataset}/{backbone}/{tuning}/{fold}.log",
    benchmark:
        "results/benchmarks/finetune_scores/{dataset}/{backbone}/{tuning}/{fold}.tsv"
    group:
        "finetune_scores"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="finetune_scores"),
    params:
        folds=compared_folds,
        code=code_digest("training.selection", "training.labelled"),
    script:
        "../scripts/finetune_scores.py"
