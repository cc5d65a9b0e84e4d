# What a job asks the cluster for: memory and run time that grow with every attempt, and the site's
# partition, account, constraint and options (config `cluster:`). A rule says
#
#     resources:
#         **gpu_job(seconds, mb)       or       **cpu_job(seconds, mb)
#
# with the cost model's prediction: a number, or a function of the wildcards. Keys that are None do not
# reach sbatch; a local run ignores all but `gpu` and `mem_mb`, and those only under `--resources`.
#
# Small jobs with a `group=` share a Slurm job, which runs them one after another (slurm/config.yaml says how
# many), so that it asks for the sum of their times. `shared(…)` or `prepared` names the same group. Before the
# first job is submitted, Slurm is asked whether it would take them all.
from fungi_audio.run import cluster, cost
from fungi_audio.errors import FungiError


resource_scopes:
    in_turn="local",


# Minutes that each partition allows, known when a run on Slurm has started.
allowed = {}

# What else is checked then; each raises WorkflowError.
before_first_job = []

SHORT_SECONDS = 60  # jobs predicted to be shorter share a Slurm job
CHAIN = 5  # rules that follow one another in one Slurm job, at most


def cpu_job(seconds=0, mb=cost.PYTHON_MB, **how):
    return ask(seconds, mb, partition="cpu", **how)


def gpu_job(seconds, mb, gpus=1, **how):
    """A job with `gpus` GPUs on one node; a CPU job when the config's device is the CPU."""
    if config["device"] == "cpu":
        return cpu_job(seconds, mb, **how)
    site = config["cluster"]
    return ask(seconds, mb, partition="gpu", **how) | {
        "gpu": gpus,
        "gpu_model": site["gpu_model"],
        "nodes": 1,
        "constraint": site["constraint"],
    }


def step(name, cores):
    """A CPU job that handles every file of a dataset once (`cost.STEP_SECONDS`)."""
    return cpu_job(
        lambda wildcards: cost.step_seconds(
            name, cost.clips(dataset(wildcards)), cores
        ),
        lambda wildcards: cost.step_mb(cost.clips(dataset(wildcards)), cores),
        group="audio",
    )


def small(definition):
    """Whether light work on a dataset takes seconds."""
    return cost.clips(definition) <= 10_000


# Light rules run where snakemake is typed, unless a dataset is large.
LIGHT = all(small(config["datasets"][name]) for name in config["run"]["datasets"])


def prepared(wildcards):
    """Small datasets go from archive to log-mels in one Slurm job."""
    return "audio" if small(dataset(wildcards)) else None


def shared(group, seconds):
    """The group of jobs that are too short for a Slurm job of their own, none for longer ones."""
    return lambda wildcards: (
        group if predicted(seconds, wildcards) < SHORT_SECONDS else None
    )


def ask(seconds, mb, partition, group=None, resumes=False):
    """A request; of a job that `resumes` what it had done, for no more time than the partition allows."""
    site = config["cluster"]
    name = site["partition"][partition]

    def runtime(wildcards, attempt):
        time = predicted(seconds, wildcards)
        limit = cluster.longest(name, allowed)
        if group and time < SHORT_SECONDS:
            sharing = workflow.group_settings.group_components.get(group, CHAIN)
            return max(1, min(cost.minutes(time, attempt, True), limit // sharing))
        least = 0 if resumes else cost.minutes(time)
        return min(cost.minutes(time, attempt), max(limit, least))

    return {
        "mem_mb": lambda wildcards, attempt: attempt * predicted(mb, wildcards),
        "runtime": runtime,
        "slurm_partition": name,
        "slurm_account": site["account"],
        "slurm_extra": site["extra"] or None,
        **({"in_turn": 1} if group else {}),
    }


def predicted(value, wildcards):
    return value(wildcards) if callable(value) else value


def asked(job):
    """The request of a job, or of a group of jobs, as it will reach sbatch."""
    known = job.resources.get
    rules = {member.rule.name for member in getattr(job, "jobs", [job])}
    settings = workflow.executor_settings
    return cluster.Request(
        " + ".join(sorted(rules)),
        partition=known("slurm_partition"),
        account=known("slurm_account"),
        constraint=known("constraint"),
        extra=known("slurm_extra", ""),
        qos=settings.qos,
        reservation=settings.reservation,
        group=getattr(job, "groupid", None),
        gpus=known("gpu", 0),
        gpu_model=known("gpu_model"),
        cpus=job.threads,
        mem_mb=known("mem_mb", 0),
        minutes=known("runtime", 0),
    )


def prepare_slurm():
    settings = workflow.executor_settings
    if not cluster.accounting():  # sacct would never answer
        settings.status_command = "squeue"
        settings.init_seconds_before_status_checks = cluster.status_interval(
            settings.init_seconds_before_status_checks
        )
    allowed.update(cluster.limits())
    jobs = workflow.dag.get_jobs_or_groups()
    cluster.check([asked(job) for job in jobs if not job.is_local])
    if workflow.execution_settings.lock:  # nobody else runs in this folder
        for job in cluster.cancel_leftovers(workflow.workdir_init):
            logger.warning(
                f"Cancelled Slurm job {job}, left behind by an earlier run in this folder."
            )


onstart:
    for check in before_first_job:
        check()
    if workflow.executor_plugin.name == "slurm":
        try:
            prepare_slurm()
        except FungiError as error:
            raise WorkflowError(str(error))
