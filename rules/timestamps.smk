# Embeddings over time of the backbones that `run: frames:` names.


include: "helpers/timestamps.smk"


rule timestamps:
    input:
        unpack(values),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/features/{dataset}/{backbone}/embedding-frames/all/part-{shard}.parquet",
    log:
        "logs/timestamps/{dataset}/{backbone}/{shard}.log",
    benchmark:
        "results/benchmarks/timestamps/{dataset}/{backbone}/{shard}.tsv"
    conda:
        network_env
    threads: 8
    resources:
        **gpu_job(timestamps_cost, timestamps_memory),
    params:
        backbone=network_options,
        statistics=configured_statistics,
        shards=lambda wildcards: shard_count(wildcards.dataset, "clean"),
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "engine.timestamps",
            "engine.shard",
            "files.features",
            family_module(wildcards),
        ),
    script:
        "../scripts/timestamps.py"
