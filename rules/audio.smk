# Raw folder -> clip table (every clip checked) -> mono 16-bit WAV at a rate -> where the machine that extracts reads it
# (`data_root`), and SSAST's datafiles.
from fungi_audio.datasets.datafiles import audio_root


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
        rate=lambda wildcards: int(wildcards.get("rate", 16_000)),
        code=code_digest("audio.resample"),
    script:
        "../scripts/resample.py"


use rule resample as resample_to_rate with:
    output:
        directory("resources/audio-{rate}/{dataset}"),
    log:
        "logs/resample/{dataset}-{rate}.log",
    benchmark:
        "results/benchmarks/resample/{dataset}-{rate}.tsv"
    wildcard_constraints:
        rate=r"\d+",


# Jobs that read the audio bring it there themselves if need be, without asking this rule: a new `data_root` is
# no reason to extract again (and an `ancient` input would hide other reasons from Snakemake).
rule place:
    input:
        clips="results/{dataset}/clips.parquet",
        audio="resources/audio/{dataset}",
    output:
        "results/{dataset}/audio_root.txt",
    log:
        "logs/place/{dataset}.log",
    benchmark:
        "results/benchmarks/place/{dataset}.tsv"
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        **step("place", cores=4),
    params:
        data_root=config["data_root"],
        code=code_digest("datasets.datafiles"),
    script:
        "../scripts/place.py"


rule datafiles:
    input:
        "results/{dataset}/clips.parquet",
    output:
        train="results/{dataset}/datafiles/{fold}_train.json",
        test="results/{dataset}/datafiles/{fold}_eval.json",
    log:
        "logs/datafiles/{dataset}-{fold}.log",
    benchmark:
        "results/benchmarks/datafiles/{dataset}-{fold}.tsv"
    wildcard_constraints:
        fold=r"\d+",
    priority: 1
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(60),
    params:
        fold=lambda wildcards: wildcards.fold,
        root=lambda wildcards: audio_root(wildcards.dataset, config["data_root"]),
        code=code_digest("datasets.datafiles"),
    script:
        "../scripts/datafiles.py"


use rule datafiles as datafiles_of_split with:
    output:
        train="results/{dataset}/datafiles/split_train.json",
        valid="results/{dataset}/datafiles/split_valid.json",
        test="results/{dataset}/datafiles/split_eval.json",
    log:
        "logs/datafiles/{dataset}-split.log",
    benchmark:
        "results/benchmarks/datafiles/{dataset}-split.tsv"
    params:
        fold="split",
        root=lambda wildcards: audio_root(wildcards.dataset, config["data_root"]),
        code=code_digest("datasets.datafiles"),


# Needs the clip table only and goes first, so that a mistake shows before anything is extracted.
rule plan:
    input:
        "results/{dataset}/clips.parquet",
    output:
        reported(
            "results/{dataset}/folds.txt", "folds", dataset="{dataset}", table="folds"
        ),
    log:
        "logs/plan/{dataset}.log",
    benchmark:
        "results/benchmarks/plan/{dataset}.tsv"
    priority: 2
    localrule: True
    conda:
        "../envs/evaluate.yaml"
    threads: 1
    resources:
        **cpu_job(60),
    params:
        folds=lambda wildcards: folds(wildcards.dataset),
        k=config["evaluation"]["knn"]["k"],
        code=code_digest("evaluate.plan"),
    script:
        "../scripts/plan.py"
