"""`snakemake --profile slurm` on a real Slurm: the chain, and what clusters do to jobs."""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml

from fungi_audio.errors import ConfigError
from fungi_audio.run import cost
from fungi_audio.run.cluster import UNLIMITED, Request, check, limits
from tests.cluster.cluster import cluster, squeue, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "tests" / "cluster" / "workflow" / "Snakefile"
QUICK = ["--slurm-init-seconds-before-status-checks", "8", "--latency-wait", "5"]


class Slurm(NamedTuple):
    env: dict[str, str]
    devices: Path  #: one line a task: job id and CUDA_VISIBLE_DEVICES


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if not shutil.which("slurmctld"):
        pytest.skip("no Slurm here; `make test-slurm` installs Debian's")
    folder = tmp_path_factory.mktemp("slurm")
    with cluster(folder) as env:
        path = f"{Path(sys.executable).parent}:{env['PATH']}"
        yield Slurm(env | {"PATH": path, "OMP_NUM_THREADS": "1"}, folder / "devices")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project root: the profile lies where `--profile slurm` looks."""
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    return tmp_path


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--profile", "slurm", *QUICK, *options]


def toy(folder: Path, *options: str, site: dict[str, object] | None = None, **work: object) -> list[str]:
    """A run of the small workflow in tests/cluster/workflow."""
    config = {"cluster": site or {"partition": {"cpu": "cpu", "gpu": "gpu"}}, "work": work}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return command("--snakefile", str(WORKFLOW), "--configfile", "run.yaml", *options)


def run(slurm: Slurm, folder: Path, arguments: list[str], fails: bool = False) -> str:
    done = subprocess.run(arguments, cwd=folder, env=slurm.env, capture_output=True, text=True, timeout=600)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def start(slurm: Slurm, folder: Path, arguments: list[str]) -> "subprocess.Popen[str]":
    """A run in the background, once its first `encode` job works."""
    with (folder / "head.out").open("w") as out:
        head = subprocess.Popen(arguments, cwd=folder, env=slurm.env, stdout=out, stderr=out, text=True)
    assert wait_until((folder / "diary.txt").exists, 60), (folder / "head.out").read_text()
    return head


CHAIN = {  # over configs/demo.yaml
    "datasets": {"demo": {"clips": 40, "folds": [1, 2]}},
    "pretrain": {"demo": {"epochs": 2, "warmup_steps": 2, "validate_every": 5, "checkpoint_every": 5}},
    "features": {"simclr": {"views": 2, "comparison_clips": 4}},
    "evaluation": {"knn": {"k": [3]}, "linear": {"l2": {"values": 3}}, "few_shot": {"shots": [2], "draws": 2}},
    "cluster": {"partition": {"cpu": "short", "gpu": "gpu"}},
}
GPU_JOBS = {"pretrain": 1, "encode": 2, "negatives": 1, "feature": 4}  # both folds' comparisons share a Slurm job
CPU_JOBS = {"index inputs place resample synthesise": 1, "projection": 1, "head": 2, "evaluate": 1, "map": 1}


def test_the_demo_on_slurm_gives_the_local_table(slurm: Slurm, tmp_path: Path) -> None:
    configfile = tmp_path / "chain.yaml"
    configfile.write_text(yaml.safe_dump(CHAIN))
    options = ["--configfile", "configs/demo.yaml", str(configfile), "--set-threads", "pretrain=1", "--directory"]
    local = [sys.executable, "-m", "snakemake", "--cores", "2", *options, str(tmp_path / "local")]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(run, slurm, ROOT, local)
        output = run(slurm, ROOT, command(*options, str(tmp_path / "slurm")))
        other.result()
    tables = [pd.read_csv(tmp_path / place / "results" / "table.csv") for place in ("slurm", "local")]
    scores = [table.loc[:, "dataset":"settings"] for table in tables]  # what follows are times
    pd.testing.assert_frame_equal(*scores)

    devices = dict(line.split() for line in slurm.devices.read_text().splitlines())
    jobs = [job for job in submitted(slurm) if job["WorkDir"] == str(tmp_path / "slurm")]
    assert Counter(map(rules_of, jobs)) == GPU_JOBS | CPU_JOBS
    gpu_jobs = [job for job in jobs if rules_of(job) in GPU_JOBS]
    for job in jobs:
        assert devices[job["JobId"]] in (("0", "1") if job in gpu_jobs else ("none",)), job["Comment"]
        assert job["Partition"] == ("gpu" if job in gpu_jobs else "short")
        mb, minutes = asked(output, job)
        assert job["TimeLimit"] == f"00:{minutes:02}:00", job["Comment"]
        assert megabytes(job["MinMemoryNode"]) == pytest.approx(mb, rel=0.01), job["Comment"]
    for job in gpu_jobs:
        for neighbour in gpu_jobs:
            together = job["NodeList"] == neighbour["NodeList"] and overlap(job, neighbour)
            if together and job["JobId"] < neighbour["JobId"]:
                assert devices[job["JobId"]] != devices[neighbour["JobId"]]


def rules_of(job: dict[str, str]) -> str:
    """The rule of a job, or the rules of its group."""
    name, one, _ = job["Comment"].removeprefix("rule_").partition("_wildcards_")
    return name if one else name.partition("_")[2].replace("_", " ")


def asked(output: str, job: dict[str, str]) -> tuple[int, int]:
    """Megabytes and minutes that the rules of a job ask for: of one of them, or of those that take turns in it."""
    slurm = dict(re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", output))
    block = r"^ *rule (\w+):\n(?: +.*\n)*? +jobid: (\d+)\n(?: +.*\n)*? +resources: .*mem_mb=(\d+).*runtime=(\d+)"
    rules = re.findall(block, output, re.MULTILINE)
    own = [(int(mb), int(time)) for _, number, mb, time in rules if slurm.get(number) == job["JobId"]]
    same = [(int(mb), int(time)) for rule, _, mb, time in rules if rule in rules_of(job).split()]
    members = own or same[:: (GPU_JOBS | CPU_JOBS)[rules_of(job)]]  # groups of the same rules are equally large
    return max(mb for mb, _ in members), sum(time for _, time in members)


def overlap(job: dict[str, str], other: dict[str, str]) -> bool:
    return job["StartTime"] < other["EndTime"] and other["StartTime"] < job["EndTime"]


def megabytes(text: str) -> float:
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


class Job(NamedTuple):
    shard: str
    start: float
    end: float | None  #: None: it never ended well
    slurm: str
    host: str
    gpu: str


def diary(folder: Path) -> list[Job]:
    """What the jobs noted, in the order they started."""
    jobs: dict[tuple[str, str], Job] = {}
    for line in (folder / "diary.txt").read_text().splitlines():
        shard, word, time, pid, slurm, host, gpu = line.split()
        key = (shard, pid)
        if word == "start":
            jobs[key] = Job(shard, float(time), None, slurm, host, gpu)
        else:
            jobs[key] = jobs[key]._replace(end=float(time))
    return list(jobs.values())


def submitted(slurm: Slurm, rule: str = "") -> list[dict[str, str]]:
    """Slurm's own record of every job of a rule or of all: what was asked for and given."""
    text = subprocess.check_output(["scontrol", "show", "job", "-d", "-o"], env=slurm.env, text=True)
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines()]
    return [job for job in jobs if job.get("Comment", "").startswith(f"rule_{rule}")]


def complete(folder: Path, shards: int = 4) -> bool:
    return (folder / "whole.txt").read_text() == "".join(f"part {n}\n" for n in range(shards)) + "none\n"


@pytest.mark.slow
def test_each_gpu_job_has_its_own_gpu_and_what_its_rule_asks_for(slurm: Slurm, folder: Path) -> None:
    run(slurm, folder, toy(folder, seconds=8))
    jobs = diary(folder)
    assert complete(folder) and len(jobs) == 4
    assert all(job.gpu in ("0", "1") for job in jobs)
    records = {job["JobId"]: job for job in submitted(slurm, "encode") if job["WorkDir"] == str(folder)}
    place = {job.slurm: (records[job.slurm]["NodeList"], job.gpu) for job in jobs}
    together = [
        (a, b) for a in jobs for b in jobs if a.slurm < b.slurm and b.start < (a.end or 0) and a.start < (b.end or 0)
    ]
    assert any(place[a.slurm][0] == place[b.slurm][0] for a, b in together), "no two jobs shared a node"
    assert all(place[a.slurm] != place[b.slurm] for a, b in together)
    for record in records.values():
        assert record["Partition"] == "gpu" and record["MinMemoryNode"] == "400M"
        assert record["TimeLimit"] == f"00:{cost.minutes(60):02}:00"
    (join,) = (job for job in submitted(slurm, "join") if job["WorkDir"] == str(folder))
    assert join["Partition"] == "cpu" and "gres" not in join["TRES"] and join["MinMemoryNode"] == "1000M"


@pytest.mark.slow
def test_cancelled_job_alone_is_redone(slurm: Slurm, folder: Path) -> None:
    head = start(slurm, folder, toy(folder, "--retries", "0", seconds=12))
    assert wait_until(lambda: len(diary(folder)) == 4, 60)
    victim = diary(folder)[0]
    subprocess.run(["scancel", victim.slurm], env=slurm.env, check=True)
    assert head.wait(120) != 0
    output = (folder / "head.out").read_text()
    assert f"logs/encode/{victim.shard}.log" in output
    assert sorted(path.stem for path in (folder / "parts").glob("*.txt")) == sorted(set("0123") - {victim.shard})
    run(slurm, folder, toy(folder, seconds=12))
    assert complete(folder)
    assert [job.shard for job in diary(folder)[4:]] == [victim.shard]


def test_a_failed_group_names_the_job_that_failed(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    mine = {"layout": "esc50", "source": str(tmp_path / "empty"), "target_length": 64, "folds": [1], "clips": 9}
    config = {"run": {"datasets": ["mine"]}, "datasets": {"mine": mine}, "cluster": CHAIN["cluster"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    options = ["--configfile", str(tmp_path / "mine.yaml"), "--retries", "0", "--directory", str(tmp_path / "run")]
    output = run(slurm, ROOT, command("resources/audio/mine", *options), fails=True)
    assert output.startswith("1 job failed.\n\n  index mine: no meta/esc50.csv."), output


def test_restart_after_the_head_was_killed(slurm: Slurm, folder: Path) -> None:
    head = start(slurm, folder, toy(folder, seconds=300))
    assert wait_until(lambda: len(diary(folder)) == 4, 60)
    head.send_signal(signal.SIGKILL)
    head.wait()
    orphans = {job.slurm for job in diary(folder)}
    assert orphans <= set(squeue(slurm.env))
    run(slurm, folder, toy(folder, "--unlock"))
    output = run(slurm, folder, toy(folder, seconds=1))
    assert all(f"Cancelled Slurm job {orphan}" in output for orphan in orphans)
    assert complete(folder)
    jobs = diary(folder)
    assert {job.slurm for job in jobs if job.end is None} == orphans
    assert sorted(job.shard for job in jobs if job.end) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("site", "complaint"),
    [
        ({"partition": {"gpu": "a100"}}, r"partition\.gpu is 'a100'; Slurm has: cpu, gpu, .*Change `partition:`"),
        ({"account": "nobody"}, r"account is 'nobody', but this cluster keeps no accounts"),
        ({"constraint": "a100"}, r"constraint is 'a100', no node has it"),
        ({"gpu_model": "h100"}, r"no node can run rule encode: .*1 GPUs h100.*gpu:fake:2.*`gpu_model:`"),
        ({"extra": "--bogus"}, r"Slurm refuses a job of rule (encode|join): .*--bogus.*`extra:`"),
        ({"gpus": 1}, r"unknown key 'gpus' in cluster"),
    ],
)
def test_impossible_wishes_are_refused_before_the_first_job(
    slurm: Slurm, folder: Path, site: dict[str, object], complaint: str
) -> None:
    output = run(slurm, folder, toy(folder, site=site), fails=True)
    assert re.search(complaint, output, re.DOTALL), output
    assert "has been submitted" not in output and "Traceback" not in output


@pytest.fixture
def here(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is on the cluster too."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])


@pytest.mark.usefixtures("here")
def test_what_slurm_takes_is_not_refused() -> None:
    assert {"": UNLIMITED, "cpu": UNLIMITED, "gpu": 1440, "short": 30, "hidden": 20}.items() <= limits().items()
    check(
        [
            Request("encode", partition="gpu,cpu", gpus=1, mem_mb=400, minutes=2000),
            Request("table", partition="hidden", minutes=20),
            Request("evaluate", partition="short", minutes=30, group="evaluate"),
        ]
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (Request("encode", partition="gpu,a100"), r"partition\.cpu is 'gpu,a100'; Slurm has: cpu, gpu"),
        (Request("encode", reservation="course"), r"--slurm-reservation is 'course': .*reservation"),
        (Request("encode", partition="hidden", minutes=21), r"asks for 21 minutes, .*allows 20\. .*`shards:`"),
        (Request("evaluate", partition="short", minutes=31, group="evaluate"), r"31 .*--group-components evaluate=5"),
    ],
)
def test_what_slurm_would_never_run_is_refused(request_: Request, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check([request_])


def test_silent_slurm(slurm: Slurm, folder: Path) -> None:
    conf = folder / "slurm.conf"
    conf.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", Path(slurm.env["SLURM_CONF"]).read_text()))
    conf.write_text(conf.read_text() + "MessageTimeout=2\n")
    broken = slurm._replace(env=slurm.env | {"SLURM_CONF": str(conf)})
    output = run(broken, folder, toy(folder), fails=True)
    assert "Slurm does not answer" in output and "has been submitted" not in output


def test_no_slurm_at_all(slurm: Slurm, folder: Path) -> None:
    tools = folder / "bin"
    tools.mkdir()
    for tool in ("bash", "sh", "env", "which", "python3"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    output = run(slurm._replace(env=slurm.env | {"PATH": str(tools)}), folder, toy(folder), fails=True)
    assert "there is no scontrol here" in output and "login node" in output


@pytest.mark.slow
def test_job_killed_for_memory_gets_more(slurm: Slurm, folder: Path) -> None:
    run(slurm, folder, toy(folder, seconds=8, megabytes=300, shards=1))
    assert complete(folder, shards=1)
    records = [job for job in submitted(slurm, "encode") if job["WorkDir"] == str(folder)]
    assert [job["MinMemoryNode"] for job in records][:2] == ["400M", "800M"]
    assert records[0]["JobState"] != "COMPLETED" and records[-1]["JobState"] == "COMPLETED"


@pytest.mark.slow
def test_job_at_its_time_limit_gets_more(slurm: Slurm, folder: Path) -> None:
    run(slurm, folder, toy(folder, seconds=95, shards=1, hurry=1))
    assert complete(folder, shards=1)
    records = [job for job in submitted(slurm, "encode") if job["WorkDir"] == str(folder)]
    assert [job["TimeLimit"] for job in records] == ["00:01:00", "00:02:00"]
    assert [job["JobState"] for job in records] == ["TIMEOUT", "COMPLETED"]


@pytest.mark.slow
def test_node_that_fails_gives_its_job_to_another(slurm: Slurm, folder: Path) -> None:
    head = start(slurm, folder, toy(folder, seconds=10, shards=1))
    (record,) = (job for job in submitted(slurm, "encode") if job["WorkDir"] == str(folder))
    node = record["NodeList"]
    control = ["scontrol", "update", f"nodename={node}"]
    subprocess.run([*control, "state=down", "reason=test"], env=slurm.env, check=True)
    try:
        assert head.wait(500) == 0, (folder / "head.out").read_text()
    finally:
        subprocess.run([*control, "state=resume"], env=slurm.env, capture_output=True)  # it may be back already
    assert complete(folder, shards=1)
    (record,) = (job for job in submitted(slurm, "encode") if job["WorkDir"] == str(folder))
    assert record["Restarts"] == "1" and record["JobState"] == "COMPLETED"
    assert [bool(job.end) for job in diary(folder)] == [False, True]


@pytest.mark.slow
def test_job_arrays(slurm: Slurm, folder: Path) -> None:
    run(slurm, folder, toy(folder, "--slurm-array-jobs", "encode"))
    assert complete(folder) and len(diary(folder)) == 4


@pytest.mark.slow
def test_local_restart_waits_for_the_job_left_behind(slurm: Slurm, folder: Path) -> None:
    def local(**work: object) -> list[str]:
        plain = [argument for argument in toy(folder, **work) if argument not in ("--profile", "slurm", *QUICK)]
        return [*plain, "--cores", "1", "--rerun-incomplete"]

    head = start(slurm, folder, local(seconds=15, shards=1))
    head.send_signal(signal.SIGKILL)
    head.wait()
    run(slurm, folder, [*local(shards=1), "--unlock"])
    run(slurm, folder, local(seconds=1, shards=1))
    first, second = diary(folder)
    assert first.end and second.end and first.end <= second.start
    assert complete(folder, shards=1)
    assert not (folder / "logs" / "encode" / "0.log.lock").exists()
