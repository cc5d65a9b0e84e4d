# Log-mels and a checkpoint with its pretext heads -> features of the objectives mpc and mpg.
import re

MASKED = [
    name
    for name, settings in config["features"].items()
    if settings["objective"] in ("mpc", "mpg")
]


ruleorder: masked_gradient > gradient


rule masked_gradient:
    input:
        unpack(log_mels),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
        signs="results/projections/{backbone}.safetensors",
    output:
        "results/features/{dataset}/{backbone}/{feature}/{fold}/part-{shard}.parquet",
    log:
        "logs/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.log",
    benchmark:
        "results/benchmarks/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.tsv"
    wildcard_constraints:
        feature="|".join(map(re.escape, MASKED)) or "(?!)",
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(
            masked_seconds,
            lambda wildcards: cost.gradient_mb(
                *gradient_share(wildcards), trunk_of(wildcards.backbone)
            ),
        ),
    params:
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        settings=feature,
        shards=lambda wildcards: part_count(wildcards.dataset, wildcards.feature),
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "engine.extract", "engine.shard", REGISTRY["objective"][feature(wildcards)["objective"]]
        ),
    script:
        "../scripts/masked_gradient.py"
