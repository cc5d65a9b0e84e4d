# Audio -> what networks read: a front end's values, once a dataset, shared by all backbones and features.
import fungi_audio.frontends


def inputs_reading(wildcards):
    return fungi_audio.frontends.reading(wildcards.inputs)


def inputs_seconds(wildcards):
    return cost.clip_seconds(dataset(wildcards), inputs_reading(wildcards))


def inputs_cost(wildcards):
    clips = cost.clips(dataset(wildcards))
    return cost.inputs_seconds(clips, inputs_seconds(wildcards), cores=8)


def inputs_memory(wildcards):
    clips, seconds = cost.clips(dataset(wildcards)), inputs_seconds(wildcards)
    return cost.inputs_mb(clips, seconds, inputs_reading(wildcards).values, cores=8)


rule inputs:
    input:
        clips="results/{dataset}/clips.parquet",
        audio=lambda wildcards: audio_folder(
            wildcards.dataset, inputs_reading(wildcards).rate
        ),
    output:
        values="results/{dataset}/{inputs}.npy",
        statistics="results/{dataset}/{inputs}.json",
    log:
        "logs/inputs/{dataset}-{inputs}.log",
    benchmark:
        "results/benchmarks/inputs/{dataset}-{inputs}.tsv"
    wildcard_constraints:
        inputs=fungi_audio.frontends.FIXED,
    group:
        prepared
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **cpu_job(inputs_cost, inputs_memory, group="audio"),
    params:
        rate=lambda wildcards: inputs_reading(wildcards).rate,
        code=lambda wildcards: code_digest(
            "frontends.cache", fungi_audio.frontends.module_of(wildcards.inputs)
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
        inputs=fungi_audio.frontends.RAGGED,
