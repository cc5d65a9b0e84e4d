# Checkpoints, and the seeded artifacts that depend on a backbone: projection and heads.


rule download_checkpoint:
    output:
        update("resources/checkpoints/{backbone}.pth"),
    log:
        "logs/download_checkpoint/{backbone}.log",
    benchmark:
        "results/benchmarks/download_checkpoint/{backbone}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(),
    params:
        url=lambda wildcards: PRESETS.get(
            backbone(wildcards)["checkpoint"], backbone(wildcards)["checkpoint"]
        ),
    script:
        "../scripts/download_checkpoint.py"


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
        "../envs/torch.yaml"
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        kind=lambda wildcards: backbone(wildcards)["checkpoint"].removeprefix("random:"),
        seed=config["seed"],
        code=code_digest("models.ssast.network"),
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
    group:
        "backbone"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        family=lambda wildcards: backbone(wildcards)["family"],
        dim=lambda wildcards: backbone(wildcards)["projection_dim"],
        seed=config["seed"],
        code=code_digest("engine.projection"),
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
    group:
        "backbone"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **cpu_job(0, cost.TORCH_MB, group="backbone"),
    params:
        family=lambda wildcards: backbone(wildcards)["family"],
        seed=config["seed"],
        code=code_digest("engine.projection"),
    script:
        "../scripts/head.py"
