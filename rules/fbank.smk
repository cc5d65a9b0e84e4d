# 16 kHz audio -> log-mel cache, once a dataset and input length, shared by all backbones and features.


rule fbank:
    input:
        clips="results/{dataset}/clips.parquet",
        audio="resources/audio/{dataset}",
    output:
        fbank="results/{dataset}/fbank-{frames}.npy",
        statistics="results/{dataset}/fbank-{frames}.json",
    log:
        "logs/fbank/{dataset}-{frames}.log",
    benchmark:
        "results/benchmarks/fbank/{dataset}-{frames}.tsv"
    group:
        prepared
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **cpu_job(
            lambda wildcards: cost.fbank_seconds(*frames_of_all_clips(wildcards), 8),
            lambda wildcards: cost.fbank_mb(*frames_of_all_clips(wildcards), 8),
            group="audio",
        ),
    params:
        code=code_digest("frontends.cache"),
    script:
        "../scripts/fbank.py"
