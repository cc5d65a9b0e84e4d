"""Run the real Snakefile in a folder of its own, and read Snakemake's own dry run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import yaml

ROOT = Path(__file__).parents[2]
CORES = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"  # more threads than cores wait for each other


class Workflow:
    """A project's Snakefile with a configuration over the demo's, working in `folder`."""

    def __init__(self, folder: Path, config: dict, project: Path = ROOT) -> None:
        self.folder, self.config, self.project = folder, config, project
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *arguments: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Snakemake in a process group of its own, with both streams in `output`."""
        configfile = self.folder / "test.yaml"
        configfile.write_text(yaml.safe_dump(self.config, allow_unicode=True), encoding="utf-8")
        where = ["--snakefile", self.project / "Snakefile", "--directory", self.folder]
        where += ["--configfile", self.project / "configs" / "demo.yaml", configfile]
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *map(str, where), "--cores", CORES, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        """Run snakemake; its output is in `.stdout`, both streams together."""
        with self.start(*arguments) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if check and process.returncode:
            raise AssertionError(f"snakemake failed\n{output}")
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def run(self, *arguments: str) -> str:
        return self.snakemake(*arguments).stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs a run would do now, by rule, from the table of the dry run."""
        output = self.run(*arguments, "--dry-run", "--quiet", "reason")
        table = re.search(r"^job\s+count\n-+\s+-+\n(.*?)\n\n", output, re.MULTILINE | re.DOTALL)
        if table is None:
            return {}
        rows = [line.split() for line in table.group(1).splitlines()]
        return {rule: int(count) for rule, count in rows if rule not in ("total", "all")}

    def path(self, name: str) -> Path:
        return self.folder / name
