# Activations and a loss -> features.


rule gradient:
    input:
        unpack(gradient_inputs),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/features/{dataset}/{backbone}/{feature}/{fold}/part-{shard}.parquet",
    log:
        "logs/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.log",
    benchmark:
        "results/benchmarks/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: 1 if stored(backbone(wildcards)) else 8
    resources:
        **gpu_job(
            gradient_cost,
            lambda wildcards: cost.gradient_mb(
                *gradient_share(wildcards), trunk_of(wildcards.backbone)
            ),
        ),
    params:
        backbone=lambda wildcards: {
            **backbone_settings(wildcards),
            "gradient_tokens": backbone(wildcards)["gradient_tokens"],
        },
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        settings=feature,
        frames=lambda wildcards: dataset(wildcards)["target_length"],
        shards=lambda wildcards: part_count(wildcards.dataset, wildcards.feature),
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "engine.extract",
            "engine.shard",
            "engine.negatives",
            family_module(wildcards),
            REGISTRY["objective"][feature(wildcards)["objective"]],
        ),
    script:
        "../scripts/gradient.py"
