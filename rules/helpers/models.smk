# What the rules of models.smk ask.
import json
import os
import subprocess
from importlib.util import find_spec
from types import SimpleNamespace


def any_input(wildcards):
    """What of a definition decides the shapes of gradient and embedding; the length of the input does not."""
    definition = backbone(wildcards)
    options = {key: definition[key] for key in ("family", *family(wildcards).SHAPING)}
    return options | family(wildcards).dataset_options({"target_length": 1024})


def local_checkpoints():
    """Backbones of the run whose checkpoint is there already, with what decides the shapes of their networks."""
    found = []
    for name in config["run"]["backbones"]:
        where = SimpleNamespace(backbone=name)
        if backbone(where)["checkpoint"].startswith(("random:", "pretrain:")):
            continue
        if Path(path := checkpoint(where)).exists():
            found.append([name, path, any_input(where)])
    return found


def check_checkpoints():
    """Stop before any data is prepared when a checkpoint does not fit; jobs on other machines check theirs again."""
    found = local_checkpoints()
    if (
        not found or find_spec("torch") is None
    ):  # the rules may have environments of their own
        return
    script = PROJECT / "scripts" / "check_checkpoints.py"
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "scripts")}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(found),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise WorkflowError(done.stderr.strip())


before_first_job.append(check_checkpoints)
