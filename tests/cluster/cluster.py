"""A real Slurm on this one machine for the tests: two nodes, two GPUs each as far as Slurm knows.

Loopback only, no munge, no root needed, nothing under /etc. The GPUs are other character devices: Slurm
counts, assigns and exports them as it does real ones. Every task notes the devices it was given in
`devices`, one line `<job id> <CUDA_VISIBLE_DEVICES>`.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

NODES = ("node1", "node2")
CPUS = 32
MEMORY_MB = 64_000
GPUS = ("/dev/null", "/dev/zero")
MARK = "FUNGI_AUDIO_TEST_CLUSTER"  # in the environment of every process that belongs to a cluster

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=1800
KillWait=2
PropagateResourceLimits=NONE
TaskProlog={folder}/bin/prolog
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 DefMemPerCPU=500 State=UP
PartitionName=gpu Nodes=ALL Default=NO MaxTime=1-00:00:00 DefaultTime=10 DefMemPerCPU=500 State=UP
PartitionName=short Nodes=ALL Default=NO MaxTime=30 DefaultTime=10 DefMemPerCPU=500 State=UP
PartitionName=hidden Nodes=ALL Default=NO Hidden=YES MaxTime=20 DefaultTime=10 DefMemPerCPU=500 State=UP
"""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Environment in which sbatch and its kin reach the cluster; its daemons and jobs end with the block."""
    host, ports = socket.gethostname().split(".")[0], _free_ports(1 + len(NODES))
    for name in ("state", "bin", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory={MEMORY_MB} "
        f"Gres=gpu:fake:{len(GPUS)}"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    conf = folder / "slurm.conf"
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    conf.write_text(SLURM_CONF.format(host=host, port=ports[0], user=user, folder=folder, nodes="\n".join(nodes)))
    gres = [f"NodeName={node} Name=gpu Type=fake File={','.join(GPUS)}\n" for node in NODES]
    (folder / "gres.conf").write_text("AutoDetect=off\n" + "".join(gres))
    # Snakemake's job step clears SLURM_CONF before its srun; a cluster with /etc/slurm does not notice.
    _script(folder / "bin" / "srun", f'export SLURM_CONF={conf}\nexec {shutil.which("srun")} "$@"')
    _script(folder / "bin" / "prolog", f'echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/devices')

    env = os.environ | {MARK: str(folder), "SLURM_CONF": str(conf), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    commands = [["slurmctld", "-D", "-c", "-f", str(conf)]]
    commands += [["slurmd", "-D", "-N", node, "-f", str(conf)] for node in NODES]
    daemons = [_start(command, env, folder / "daemons.out") for command in commands]
    try:
        _wait_for_nodes(env, folder)
        yield env
    finally:
        subprocess.run(["scancel", "--signal=KILL", "--user", user], env=env)
        wait_until(lambda: not squeue(env), 20)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(20)
        for process in psutil.process_iter(["environ"]):  # what a cancelled job left running
            if (process.info["environ"] or {}).get(MARK) == str(folder):
                process.kill()


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def squeue(env: dict[str, str], form: str = "%i") -> list[str]:
    """One line a job that is waiting, running or completing."""
    return subprocess.run(["squeue", "-h", "-o", form], env=env, capture_output=True, text=True).stdout.splitlines()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def _start(command: list[str], env: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """A daemon in the foreground that ends with this process, however this one ends."""
    with log.open("ab") as file:
        return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], env=env, stdout=file, stderr=file)


def _wait_for_nodes(env: dict[str, str], folder: Path) -> None:
    def idle() -> bool:
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "cpu", "-t", "idle"], env=env, capture_output=True, text=True
        )
        return len(answer.stdout.splitlines()) == len(NODES)

    if not wait_until(idle, 30):
        logs = "\n".join(f"{log}\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))
        raise RuntimeError(f"the test cluster did not come up:\n{logs}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
