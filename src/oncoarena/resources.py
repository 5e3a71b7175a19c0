"""What each job asks of its machine, said once: Snakemake's resources and their twins for AWS Batch and Slurm.

A run on one machine looks at threads, mem_mb, gpu and runtime; the executor for AWS Batch looks at ``aws_batch_*``
and at nothing else; Slurm also asks for the partition.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oncoarena.specs import HypothesisSpec
from oncoarena.study import AssayPlan

if TYPE_CHECKING:
    from oncoarena.aws.settings import AwsSettings

MOST_THREADS = 32
"""Objects of a shard that are read at once, at most."""

WORKER_MB = 1500
"""Memory of a process that reads objects: 160 to 430 MB were measured, and Dask stops a worker at 95 % of its share."""

MB_PER_MB = {"alignments": 0, "methylation": 2, "variants": 10}
"""Memory for each MB of an object as it is stored: measured for alignments (272 MB at 0.1, 1 and 10 GB) and variants
(1.4 on plain text, 20 on text that gzip makes 17 times shorter, which real files are not), assumed for methylation."""

MB_PER_MB_OF_TABLES = 80
"""The same of assays that hold a sample's table as a whole: measured on 10^6 rows of gzip text; 16 on plain text."""

MB_PER_MB_OF_MATRIX = 20

THREAD_MB_PER_S = 5
"""What a thread reads a second at the very least: a job that needs longer hangs, and is stopped."""


@dataclass(frozen=True)
class Need:
    """What one job asks of its machine on its first attempt."""

    threads: int = 1
    mem_mb: int = 2000
    gpu: int = 0
    runtime: int = 60
    """Minutes."""
    queue: str = "small"
    """Nodes of AWS Batch: small, memory or gpu."""
    image: str = "cpu"
    """Container on AWS Batch: cpu, tensorflow, torch or cuda."""
    shared: bool = False
    """Whether the threads share the memory out: a job that gets fewer of them needs less."""


SIMULATE = Need(threads=8, mem_mb=16000, runtime=240, queue="memory")
FREEZE = Need(mem_mb=4000)
SPLIT = Need()
EVALUATE = Need(threads=2, mem_mb=4000)
REPORT = Need(mem_mb=4000)


def training_need(spec: HypothesisSpec) -> Need:
    """Return what training asks: the resources of the hypothesis's YAML, and the container of its framework."""
    asked, framework = spec.resources, spec.training.framework
    image = framework if framework in ("tensorflow", "torch") else "cuda" if asked.gpu else "cpu"
    queue = "gpu" if asked.gpu else "small"
    return Need(asked.threads, asked.mem_mb, asked.gpu, asked.runtime, queue, image)


def extraction_need(plan: AssayPlan, shard: Mapping[str, int], input_mb: float) -> Need:
    """Return what the extraction of a shard asks, by the number and the bytes of its objects.

    Parameters: ``shard`` as of ``plan.plan_shards``; ``input_mb`` the MB of the cohort's matrix, where there is one.
    """
    if plan.matrix is not None:
        return Need(mem_mb=max(4000, int(MB_PER_MB_OF_MATRIX * input_mb)), runtime=240, queue="memory")
    n_objects, n_mb = shard["end"] - shard["first"], shard["n_bytes"] / 1e6
    threads = int(min(MOST_THREADS, max(2, n_objects / 4, n_mb / 1000)))
    of_object_mb = n_mb / n_objects * MB_PER_MB.get(plan.name, MB_PER_MB_OF_TABLES)
    runtime = 30 + n_mb / (THREAD_MB_PER_S * threads) / 60
    mem_mb = int(threads * (WORKER_MB + of_object_mb))
    return Need(threads, mem_mb, runtime=int(runtime), queue="memory", shared=True)


def directives(
    need: Need | Callable[[Any, Any], Need],
    aws: "AwsSettings | None" = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Callable[..., Any]]:
    """Return the entries of a rule's ``resources:``, functions that Snakemake calls for each job and attempt.

    A second attempt gets twice the memory and the time of the first, a third one three times.

    Parameters: ``need``, or a function of wildcards and input that returns it; ``aws`` where jobs go to AWS Batch;
    the environment may name the Slurm partitions of jobs with and without a GPU, ONCOARENA_SLURM_GPU_PARTITION
    and ONCOARENA_SLURM_PARTITION.
    """

    def of(wildcards: Any, input: Any) -> Need:
        return need if isinstance(need, Need) else need(wildcards, input)

    def partition(wildcards: Any, input: Any) -> str:
        kind = "GPU_PARTITION" if of(wildcards, input).gpu else "PARTITION"
        return environ.get(f"ONCOARENA_SLURM_{kind}", "")

    def mem_mb(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        asked = of(wildcards, input)
        return attempt * (asked.mem_mb * threads // asked.threads if asked.shared else asked.mem_mb)

    asked = {
        "mem_mb": mem_mb,
        "gpu": lambda wildcards, input: of(wildcards, input).gpu,
        "runtime": lambda wildcards, input, attempt: attempt * of(wildcards, input).runtime,
    }
    if any(name.startswith("ONCOARENA_SLURM_") for name in environ):
        asked["slurm_partition"] = partition
    if aws is None:
        return asked
    return asked | {
        "aws_batch_job_queue": lambda wildcards, input: aws.queues[of(wildcards, input).queue],
        "aws_batch_job_definition": lambda wildcards, input: aws.job_definitions[of(wildcards, input).image],
        "aws_batch_vcpu": lambda wildcards, threads: threads,
        "aws_batch_mem_mb": mem_mb,
        "aws_batch_gpu": asked["gpu"],
        "aws_batch_task_timeout": lambda wildcards, input, attempt: (
            60 * asked["runtime"](wildcards, input, attempt)
        ),
    }
