# Log-mels of one or several datasets -> an SSAST trained on masked patches.


include: "helpers/train.smk"


rule pretrain:
    input:
        clips=pretrain_files("results/{dataset}/clips.parquet"),
        fbank=pretrain_files("results/{dataset}/fbank-{frames}.npy"),
        statistics=pretrain_files("results/{dataset}/fbank-{frames}.json"),
    output:
        pth="results/pretrain/{pretraining}/checkpoint.pth",
        safetensors="results/pretrain/{pretraining}/checkpoint.safetensors",
        curves="results/pretrain/{pretraining}/curves.csv",
        plots=[
            reported(
                "results/pretrain/{pretraining}/curves.svg",
                "curves",
                run="{pretraining}",
            ),
            "results/pretrain/{pretraining}/curves.png",
        ],
    log:
        "logs/pretrain/{pretraining}.log",
    benchmark:
        "results/benchmarks/pretrain/{pretraining}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(
            pretrain_seconds,
            pretrain_memory,
            gpus=training_gpus(),
            resumes=True,
        ),
    params:
        settings=lambda wildcards: {
            key: value
            for key, value in pretraining(wildcards).items()
            if key != "checkpoint_every"  # decides no number
        },
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=code_digest("training.pretrain", "training.publish"),
    script:
        "../scripts/pretrain.py"
