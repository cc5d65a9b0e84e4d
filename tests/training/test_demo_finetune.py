"""Fine-tuning the demo beats the linear probe of its frozen backbone."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.tools.workflow import ROOT, Workflow


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fine_tuning_beats_the_linear_probe(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs" / "demo-finetune.yaml").read_text(encoding="utf-8"))
    config["datasets"] = {"demo": {"folds": [1, 2]}}
    config["evaluation"] = {"few_shot": {"shots": []}}
    workflow = Workflow(tmp_path, config)
    workflow.snakemake("results/table.csv", timeout=1800)
    table = pd.read_csv(workflow.path("results/table.csv")).query("metric == 'accuracy'")
    means = table.groupby("protocol")["value"].mean()
    assert table.query("protocol == 'finetune'")["n_test"].sum() == 80
    assert means["finetune"] > means["linear"] + 0.05
