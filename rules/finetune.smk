# A pretrained backbone and labelled clips -> a fine-tuned checkpoint a fold -> rows of the results table.


include: "helpers/finetune.smk"


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
