# What a backbone reads, a frozen backbone and an objective -> features. Where a loss reads a few tokens only, the trunk
# runs once for all objectives and folds (`encode`), and a feature is cheap arithmetic on what it stored.


include: "helpers/features.smk"


rule encode:
    input:
        unpack(values),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/activations/{dataset}/{backbone}/{views}/{shard}.safetensors",
    log:
        "logs/encode/{dataset}/{backbone}/{views}/{shard}.log",
    benchmark:
        "results/benchmarks/encode/{dataset}/{backbone}/{views}/{shard}.tsv"
    conda:
        network_env
    threads: 8
    resources:
        **gpu_job(
            lambda wildcards: cost.encode_seconds(
                *encode_share(wildcards), extraction_rate(8)
            ),
            lambda wildcards: cost.encode_mb(*encode_share(wildcards)),
        ),
    params:
        backbone=trunk_options,
        statistics=configured_statistics,
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


rule negatives:
    input:
        unpack(values),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/negatives/{dataset}/{backbone}/{clips}/{fold}.safetensors",
    log:
        "logs/negatives/{dataset}/{backbone}/{clips}/{fold}.log",
    benchmark:
        "results/benchmarks/negatives/{dataset}/{backbone}/{clips}/{fold}.tsv"
    group:
        shared("negatives", negatives_cost)
    conda:
        network_env
    threads: 1
    resources:
        **gpu_job(
            negatives_cost,
            cost.TORCH_MB + cost.PYTHON_MB,
            group="negatives",
        ),
    params:
        backbone=trunk_options,
        statistics=configured_statistics,
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "engine.shard",
            "engine.negatives",
            "objectives.embedding",
            "datasets.folds",
            family_module(wildcards),
        ),
    script:
        "../scripts/negatives.py"


rule feature:
    input:
        unpack(feature_inputs),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/features/{dataset}/{backbone}/{feature}/{fold}/part-{shard}.parquet",
    log:
        "logs/feature/{dataset}/{backbone}/{feature}/{fold}/{shard}.log",
    benchmark:
        "results/benchmarks/feature/{dataset}/{backbone}/{feature}/{fold}/{shard}.tsv"
    wildcard_constraints:
        feature="|".join(map(re.escape, config["features"])),
    conda:
        network_env
    threads: lambda wildcards: 1 if is_stored(wildcards) else 8
    resources:
        **gpu_job(feature_cost, feature_memory),
    params:
        backbone=network_options,
        statistics=lambda wildcards: (
            None if is_stored(wildcards) else configured_statistics(wildcards)
        ),
        settings=feature,
        shards=lambda wildcards: part_count(wildcards.dataset, wildcards.feature),
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "objectives.extract",
            "engine.shard",
            "engine.negatives",
            family_module(wildcards),
            REGISTRY["objective"][feature(wildcards)["objective"]],
            *pretext_module(wildcards),
        ),
    script:
        "../scripts/feature.py"
