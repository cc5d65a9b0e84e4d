# Raw folder -> clip table (every clip checked) -> 16 kHz mono 16-bit WAV; one job a dataset.


rule index:
    input:
        raw,
    output:
        clips=reported(
            "results/{dataset}/clips.parquet",
            "clips",
            dataset="{dataset}",
            table="clips",
        ),
        classes=reported(
            "results/{dataset}/classes.csv",
            "clips",
            dataset="{dataset}",
            table="classes",
        ),
        skipped=reported(
            "results/{dataset}/skipped.csv",
            "skipped",
            dataset="{dataset}",
            table="left out",
        ),
    log:
        "logs/index/{dataset}.log",
    benchmark:
        "results/benchmarks/index/{dataset}.tsv"
    priority: 1
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        **step("index", cores=8),
    params:
        layout=lambda wildcards: dataset(wildcards)["layout"],
        options=layout_options,
        stamps=metadata_stamps,
        skip=lambda wildcards: dataset(wildcards)["bad_clips"] == "skip",
        code=lambda wildcards: code_digest(
            "datasets.index", REGISTRY["layout"][dataset(wildcards)["layout"]]
        ),
    script:
        "../scripts/index.py"


rule resample:
    input:
        clips="results/{dataset}/clips.parquet",
        raw=raw,
    output:
        directory("resources/audio/{dataset}"),
    log:
        "logs/resample/{dataset}.log",
    benchmark:
        "results/benchmarks/resample/{dataset}.tsv"
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        **step("resample", cores=8),
    params:
        link=lambda wildcards: source(wildcards).kind != "folder",
        code=code_digest("audio.resample"),
    script:
        "../scripts/resample.py"
