# Checkpoints, and the seeded artifacts that depend on a backbone: projection and heads.


include: "helpers/models.smk"


rule download_checkpoint:
    output:
        update("resources/checkpoints/{backbone}{suffix}"),
    log:
        "logs/download_checkpoint/{backbone}{suffix}.log",
    benchmark:
        "results/benchmarks/download_checkpoint/{backbone}{suffix}.tsv"
    wildcard_constraints:
        suffix=r"\.(pth|pt|ckpt|bin|safetensors)",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(),
    params:
        places=lambda wildcards: places(wildcards.backbone),
    script:
        "../scripts/download_checkpoint.py"


# A repository of the Hub is a folder: weights, and the JSON files that say what they are.
use rule download_checkpoint as download_repository with:
    output:
        directory("resources/checkpoints/{backbone}"),
    log:
        "logs/download_repository/{backbone}.log",
    benchmark:
        "results/benchmarks/download_repository/{backbone}.tsv"
    wildcard_constraints:
        backbone=repositories(),


# As for archives: a digest that is pinned later is checked, and nothing is made again.
use rule checksum as checkpoint_checksum with:
    input:
        checkpoint,
    output:
        update("results/checkpoints/{backbone}.sha256"),
    log:
        "logs/checkpoint_checksum/{backbone}.log",
    benchmark:
        "results/benchmarks/checkpoint_checksum/{backbone}.tsv"
    localrule: True
    resources:
        **cpu_job(),
    params:
        sha256=lambda wildcards: backbone(wildcards)["sha256"],


rule random_checkpoint:
    output:
        "results/checkpoints/{backbone}.safetensors",
    log:
        "logs/random_checkpoint/{backbone}.log",
    benchmark:
        "results/benchmarks/random_checkpoint/{backbone}.tsv"
    group:
        "backbone"
    conda:
        network_env
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        family=lambda wildcards: backbone(wildcards)["family"],
        kind=lambda wildcards: backbone(wildcards)["checkpoint"].removeprefix("random:"),
        seed=config["seed"],
        code=lambda wildcards: code_digest(family_module(wildcards)),
    script:
        "../scripts/random_checkpoint.py"


rule projection:
    input:
        checkpoint=checkpoint,
    output:
        "results/projections/{backbone}.safetensors",
    log:
        "logs/projection/{backbone}.log",
    benchmark:
        "results/benchmarks/projection/{backbone}.tsv"
    priority: 3  # a downloaded checkpoint that does not fit shows before anything is extracted
    group:
        "backbone"
    conda:
        network_env
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        backbone=any_input,
        dim=lambda wildcards: backbone(wildcards)["projection_dim"],
        seed=config["seed"],
        code=lambda wildcards: code_digest(
            "engine.projection", family_module(wildcards)
        ),
    script:
        "../scripts/projection.py"


rule head:
    input:
        checkpoint=checkpoint,
    output:
        "results/heads/{backbone}/{objective}.safetensors",
    log:
        "logs/head/{backbone}/{objective}.log",
    benchmark:
        "results/benchmarks/head/{backbone}/{objective}.tsv"
    priority: 3  # a downloaded checkpoint that does not fit shows before anything is extracted
    group:
        "backbone"
    conda:
        network_env
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        backbone=any_input,
        seed=config["seed"],
        code=lambda wildcards: code_digest(
            "engine.projection", family_module(wildcards)
        ),
    script:
        "../scripts/head.py"
