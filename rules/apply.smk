# Trained models on any dataset, without training: embeddings of any layer, scores of fine-tuned checkpoints.


include: "helpers/apply.smk"


wildcard_constraints:
    embedding=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    transfer=r"[A-Za-z0-9][A-Za-z0-9._-]*",


rule embeddings:
    input:
        clips=lambda wildcards: f"results/{embedding(wildcards)['dataset']}/clips.parquet",
        audio=lambda wildcards: f"resources/audio/{embedding(wildcards)['dataset']}",
        statistics=embedding_statistics,
        model=lambda wildcards: model_file(embedding(wildcards)["model"]),
    output:
        directory("results/embeddings/{embedding}"),
    log:
        "logs/embeddings/{embedding}.log",
    benchmark:
        "results/benchmarks/embeddings/{embedding}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(embedding_seconds, embedding_memory),
    params:
        settings=embedding,
        stride=lambda wildcards: config["backbones"]
        .get(embedding(wildcards)["model"], {})
        .get("stride"),
        dataset=lambda wildcards: config["datasets"][embedding(wildcards)["dataset"]],
        device=config["device"],
        code=code_digest("training.apply", "files.features"),
    script:
        "../scripts/embeddings.py"


rule transfer:
    input:
        clips="results/{dataset}/clips.parquet",
        audio="resources/audio/{dataset}",
        model=lambda wildcards: model_file(transfer(wildcards)["checkpoint"]),
    output:
        scores=reported(
            "results/evaluation/{dataset}/{transfer}/transfer/{fold}.csv",
            "scores",
            dataset="{dataset}",
            features="transfer-{transfer}",
            fold="{fold}",
        ),
        predictions=reported(
            "results/evaluation/{dataset}/{transfer}/transfer/{fold}.predictions.parquet",
            "predictions",
            dataset="{dataset}",
            features="transfer-{transfer}",
            fold="{fold}",
        ),
    log:
        "logs/transfer/{dataset}/{transfer}/{fold}.log",
    benchmark:
        "results/benchmarks/transfer/{dataset}/{transfer}/{fold}.tsv"
    group:
        shared("transfer", transfer_seconds)
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(transfer_seconds, transfer_memory, group="transfer"),
    params:
        multilabel=lambda wildcards: dataset(wildcards)["multilabel"],
        device=config["device"],
        code=code_digest("training.apply", "training.selection"),
    script:
        "../scripts/transfer.py"
