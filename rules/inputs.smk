# Audio -> what networks read: a front end's values, once a dataset, shared by all backbones and features.


include: "helpers/inputs.smk"


rule inputs:
    input:
        clips="results/{dataset}/clips.parquet",
        audio=lambda wildcards: audio_root(
            wildcards.dataset, None, frontends.kind_of(wildcards.inputs).rate
        ),
    output:
        values="results/{dataset}/{inputs}.npy",
        statistics="results/{dataset}/{inputs}.json",
    log:
        "logs/inputs/{dataset}-{inputs}.log",
    benchmark:
        "results/benchmarks/inputs/{dataset}-{inputs}.tsv"
    wildcard_constraints:
        inputs=frontends.FIXED,
    group:
        prepared
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **cpu_job(
            lambda wildcards: cost.inputs_seconds(*inputs_share(wildcards), cores=8),
            inputs_memory,
            group="audio",
        ),
    params:
        code=lambda wildcards: code_digest(
            "frontends.cache", frontends.module_of(wildcards.inputs)
        ),
    script:
        "../scripts/inputs.py"


# Clips as long as they are: their values lie one after another, and a second file says where each begins.
use rule inputs as ragged_inputs with:
    output:
        values="results/{dataset}/{inputs}.npy",
        offsets="results/{dataset}/{inputs}.offsets.npy",
        statistics="results/{dataset}/{inputs}.json",
    wildcard_constraints:
        inputs=frontends.RAGGED,
