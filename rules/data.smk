# URL, archive or folder of a dataset -> raw folder. A local archive or folder is used where it is.


include: "helpers/data.smk"


# No code digest: a change of the downloader is no reason to download again.
rule download:
    output:
        "resources/downloads/{dataset}/{archive}",
    log:
        "logs/download/{dataset}-{archive}.log",
    benchmark:
        "results/benchmarks/download/{dataset}-{archive}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
        archive="[A-Za-z0-9._-]+",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(3600),
    params:
        url=lambda wildcards: source(wildcards).location,
    script:
        "../scripts/download.py"


# Pinning the digest afterwards runs this and nothing else, since no rule asks for it; `update` keeps the last good
# output when the digest is wrong. Unpacking checks the archive too.
rule checksum:
    input:
        archive,
    output:
        update("results/{dataset}/archive.sha256"),
    log:
        "logs/checksum/{dataset}.log",
    benchmark:
        "results/benchmarks/checksum/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
    localrule: LIGHT
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **cpu_job(
            lambda wildcards: cost.step_seconds(
                "unpack", cost.clips(dataset(wildcards)), cores=1
            )
        ),
    params:
        sha256=lambda wildcards: dataset(wildcards)["sha256"],
    script:
        "../scripts/checksum.py"


rule unpack:
    input:
        archive,
    output:
        directory("resources/raw/{dataset}"),
    log:
        "logs/unpack/{dataset}.log",
    benchmark:
        "results/benchmarks/unpack/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=False),
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        **step("unpack", cores=1),
    params:
        max_gigabytes=lambda wildcards: dataset(wildcards)["max_gigabytes"],
        code=code_digest("files.archives"),
    script:
        "../scripts/unpack.py"


rule synthesise:
    output:
        directory("resources/raw/{dataset}"),
    log:
        "logs/synthesise/{dataset}.log",
    benchmark:
        "results/benchmarks/synthesise/{dataset}.tsv"
    wildcard_constraints:
        dataset=layouts(synthetic=True),
    group:
        prepared
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        **step("synthesise", cores=8),
    params:
        clips=lambda wildcards: cost.clips(dataset(wildcards)),
        seed=config["seed"],
        code=code_digest("datasets.synthetic"),
    script:
        "../scripts/synthesise.py"
