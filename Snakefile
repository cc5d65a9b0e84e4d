# FUNGI features of frozen audio backbones: from an archive of audio to a results table.
# docs/architecture.md has the picture; config.yaml says what to run.
import sys
from pathlib import Path

PROJECT = Path(workflow.basedir)
sys.path.insert(0, str(PROJECT / "scripts"))

from snakemake.utils import min_version

from fungi_audio.run.config import load
from fungi_audio.errors import FungiError

min_version("9.0")


configfile: PROJECT / "config.yaml"


try:
    config = load(config, PROJECT)
except FungiError as error:
    sys.exit(str(error))


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/data.smk"
include: "rules/audio.smk"
include: "rules/inputs.smk"
include: "rules/models.smk"
include: "rules/features.smk"
include: "rules/timestamps.smk"
include: "rules/train.smk"
include: "rules/finetune.smk"
include: "rules/apply.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "results/table.csv",
        "results/table.md",
        "results/table.tex",
        "results/report.html",
        [path for name in config["run"]["datasets"] for path in records(name)],
        [path for name in config["run"]["backbones"] for path in digests(name)],
        expand("results/embeddings/{name}", name=config["run"]["embeddings"]),
        [
            f"results/features/{name}/{backbone}/embedding-frames/all/part-{shard}.parquet"
            for name in config["run"]["datasets"]
            for backbone in config["run"]["frames"]
            for shard in range(shard_count(name, "clean"))
        ],
