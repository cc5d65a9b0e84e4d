"""Slurm before a run: does it answer, does it have what the jobs will ask for, what did an earlier run leave behind?"""

import getpass
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ClusterError, ConfigError, FungiError

WHERE = "under `cluster:` in config.yaml or your --configfile"
PATIENCE_SECONDS = 60
SPLIT = "split the dataset (its `shards:`)"
UNLIMITED = 365 * 24 * 60  #: minutes


@dataclass(frozen=True)
class Request:
    """What a rule's job asks for; `None` leaves it to Slurm."""

    rule: str
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    extra: str = ""
    qos: str | None = None
    reservation: str | None = None
    group: str | None = None
    gpus: int = 0
    gpu_model: str | None = None
    cpus: int = 1
    mem_mb: int = 0
    minutes: int = 0

    def options(self) -> list[str]:
        """The request as options of sbatch."""
        gpus = f"{self.gpu_model}:{self.gpus}" if self.gpu_model else self.gpus
        chosen = {
            "partition": self.partition,
            "account": names(self.account)[0] if self.account else None,
            "qos": self.qos,
            "reservation": self.reservation,
            "constraint": self.constraint,
            "gpus": gpus if self.gpus else None,
            "cpus-per-task": self.cpus,
            "mem": self.mem_mb or None,
            "time": self.minutes or None,
            "nodes": 1,
        }
        return [f"--{name}={value}" for name, value in chosen.items() if value is not None] + shlex.split(self.extra)


def largest(requests: Iterable[Request]) -> list[Request]:
    """Of every rule's requests that differ in size only, one as large as the largest of each size."""
    found: dict[Request, Request] = {}
    for request in requests:
        kind = replace(request, cpus=0, mem_mb=0, minutes=0)
        before = found.get(kind, request)
        sizes = {size: max(getattr(before, size), getattr(request, size)) for size in ("cpus", "mem_mb", "minutes")}
        found[kind] = replace(request, **sizes)
    return list(found.values())


def names(setting: str | None) -> list[str]:
    """Partitions or accounts of a setting that may list several; Slurm's default is ``""``."""
    return [name for name in re.split(r"[,\s]+", setting or "") if name] or [""]


def limits() -> dict[str, int]:
    """The longest run time of each partition in minutes; the default partition also under ``""``."""
    return _partitions()[0]


def longest(partition: str | None, limits: dict[str, int]) -> int:
    """Minutes that a job may take in the most patient of the partitions that it names."""
    return max(limits.get(name, UNLIMITED) for name in names(partition))


def check(requests: Iterable[Request]) -> None:
    """Ask Slurm whether it would take every request, without submitting anything.

    Raises:
        ClusterError, ConfigError: naming the setting and the place to change it.
    """
    limits, nodes = _partitions()
    for request in largest(requests):
        if request.partition and not set(names(request.partition)) <= limits.keys():
            raise _unknown_partition(request, limits)
        limit = longest(request.partition, limits)
        if request.minutes > limit:
            less = f"let fewer jobs share one (--group-components {request.group}=5)" if request.group else SPLIT
            raise ConfigError(
                f"rule {request.rule} asks for {request.minutes} minutes, partition {request.partition or '(default)'} "
                f"allows {limit}. Choose another partition (`partition:` {WHERE}), {less} "
                "or correct `gpu_tflops` and `cpu_gflops`, from which run times are predicted"
            )
        _check_account(request)
        answer = _slurm("sbatch", "--test-only", *request.options(), "--wrap=true", fail=False)
        if answer.returncode:
            raise _refusal(request, " ".join(answer.stderr.split()), limits, nodes)


def _partitions() -> tuple[dict[str, int], dict[str, list[str]]]:
    """Time limit in minutes and the kinds of nodes of every partition; `""` is the default one."""
    limits: dict[str, int] = {}
    nodes: dict[str, list[str]] = {}
    for line in _slurm("sinfo", "-a", "-h", "-o", "%P|%l|%D nodes with %c CPUs, %m MB, GPUs: %G").stdout.splitlines():
        name, limit, shape = line.split("|", 2)
        for key in {name.rstrip("*"), "" if name.endswith("*") else name}:
            limits[key] = _minutes(limit)
            nodes.setdefault(key, []).append(shape)
    return limits, nodes


def _minutes(limit: str) -> int:
    """Minutes of Slurm's `days-hours:minutes:seconds`."""
    if not re.fullmatch(r"[\d:-]+", limit):
        return UNLIMITED
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = ([0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds // 60


def _check_account(request: Request) -> None:
    if request.account is None:
        return
    if not accounting():
        raise ConfigError(f"account is {request.account!r}, but this cluster keeps no accounts: set it to null {WHERE}")
    answer = _slurm(
        "sacctmgr", "-nP", "list", "associations", f"user={getpass.getuser()}", "format=account", fail=False
    )
    accounts = sorted({line.strip().lower() for line in answer.stdout.splitlines() if line.strip()})
    if accounts and not {account.lower() for account in names(request.account)} <= set(accounts):
        raise ConfigError(
            f"account is {request.account!r}; yours are: {', '.join(accounts)}. Change `account:` {WHERE}"
        )


def _unknown_partition(request: Request, limits: dict[str, int]) -> ConfigError:
    known = ", ".join(sorted(name for name in limits if name))
    kind = "gpu" if request.gpus else "cpu"
    return ConfigError(f"partition.{kind} is {request.partition!r}; Slurm has: {known}. Change `partition:` {WHERE}")


def _refusal(request: Request, reason: str, limits: dict[str, int], nodes: dict[str, list[str]]) -> FungiError:
    """What Slurm's refusal of a request means for the person who can change it."""
    there = "; ".join(shape for name in names(request.partition) for shape in nodes.get(name, ["none"]))
    wish = f"{request.cpus} CPUs, {request.mem_mb} MB and {request.gpus} GPUs {request.gpu_model or ''}".strip()
    if "feature" in reason:
        return ConfigError(
            f"constraint is {request.constraint!r}, no node has it: {reason}. Change `constraint:` {WHERE}"
        )
    if "nvalid account" in reason:
        return ConfigError(f"account is {request.account!r}: {reason}. Change `account:` {WHERE}")
    if "artition" in reason:
        return _unknown_partition(request, limits)
    for option in ("qos", "reservation"):
        if option in reason:
            return ConfigError(f"--slurm-{option} is {getattr(request, option)!r}: {reason}")
    if "node configuration" in reason:
        return ConfigError(
            f"no node can run rule {request.rule}: it asks for {wish} in partition {request.partition or '(default)'}, "
            f"which has {there}. Change `partition:`, `gpu_model:` or `training_gpus:` {WHERE}, "
            f"or the rule's request: --set-resources {request.rule}:mem_mb=…"
        )
    return ClusterError(
        f"Slurm refuses a job of rule {request.rule}: {reason}. It was asked with {shlex.join(request.options())}; "
        f"options of your own stand in `extra:` {WHERE}"
    )


def accounting() -> bool:
    """Whether Slurm keeps accounts, so that `sacct` can answer."""
    return "accounting_storage/none" not in _setting("AccountingStorageType")


def status_interval(seconds: int) -> int:
    """First status check (seconds) after which Slurm still remembers finished jobs; at most `seconds`.

    Without accounts only Slurm's memory of `MinJobAge` seconds tells how a job ended.
    """
    age = re.match(r"\d+", _setting("MinJobAge"))
    return max(1, min(seconds, int(age[0]) // 3)) if age and int(age[0]) else seconds


def _setting(name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(.*)$", _slurm("scontrol", "show", "config").stdout, re.MULTILINE)
    return found[1].strip() if found else ""


def cancel_leftovers(workdir: str | Path) -> list[str]:
    """Cancel the jobs of an earlier run in `workdir` whose head process died, and wait until they are gone.

    Snakemake cannot adopt them, and what they write would be written a second time. To be called while
    this run holds Snakemake's lock on the folder and has submitted nothing.

    Returns:
        The ids of the Slurm jobs.

    Raises:
        ClusterError: a job does not end.
    """

    def leftovers() -> list[str]:
        rows = [line.split("|", 2) for line in _slurm("squeue", "--me", "-h", "-o", "%A|%k|%Z").stdout.splitlines()]
        return sorted({job for job, comment, folder in rows if folder == str(workdir) and _is_ours(comment)})

    jobs = leftovers()
    if jobs:
        _slurm("scancel", *jobs)
    _wait(
        lambda: not leftovers(), f"jobs {', '.join(jobs)} of an earlier run do not end; look at them with squeue --me"
    )
    return jobs


def _is_ours(comment: str) -> bool:
    return comment.startswith(("rule_", "group_"))


def _wait(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(complaint)
        time.sleep(1)


def _slurm(*command: str, fail: bool = True) -> "subprocess.CompletedProcess[str]":
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise ClusterError(
            f"there is no {command[0]} here: start `snakemake --profile slurm` on a login node of the cluster "
            "(load its Slurm module), or run on this machine with `snakemake --cores all`"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"Slurm does not answer: no word from {command[0]} in {PATIENCE_SECONDS} seconds") from None
    if fail and answer.returncode:
        raise ClusterError(f"Slurm does not answer: {shlex.join(command)} says {answer.stderr.strip()!r}")
    return answer
