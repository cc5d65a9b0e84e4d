# Log-mels and a frozen backbone -> activations of the target layer.


rule encode:
    input:
        unpack(log_mels),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/activations/{dataset}/{backbone}/{views}/{shard}.safetensors",
    log:
        "logs/encode/{dataset}/{backbone}/{views}/{shard}.log",
    benchmark:
        "results/benchmarks/encode/{dataset}/{backbone}/{views}/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(encode_cost, encode_memory),
    params:
        backbone=backbone_settings,
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        views=lambda wildcards: (
            0 if wildcards.views == "clean" else view_count(wildcards.views)
        ),
        shards=lambda wildcards: shard_count(wildcards.dataset, wildcards.views),
        seed=lambda wildcards: None if wildcards.views == "clean" else config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest("engine.shard", family_module(wildcards)),
    script:
        "../scripts/encode.py"


rule comparison:
    input:
        unpack(log_mels),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/comparisons/{dataset}/{backbone}/{clips}/{fold}.safetensors",
    log:
        "logs/comparison/{dataset}/{backbone}/{clips}/{fold}.log",
    benchmark:
        "results/benchmarks/comparison/{dataset}/{backbone}/{clips}/{fold}.tsv"
    group:
        shared("comparison", comparison_cost)
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **gpu_job(
            comparison_cost,
            cost.TORCH_MB + cost.PYTHON_MB,
            group="comparison",
        ),
    params:
        backbone=backbone_settings,
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "engine.shard", "engine.negatives", "datasets.folds", family_module(wildcards)
        ),
    script:
        "../scripts/comparison.py"
