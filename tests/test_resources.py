"""What jobs ask of their machines, on one machine, on AWS Batch and on Slurm."""

import inspect
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoarena.aws.settings import AwsSettings
from oncoarena.resources import MOST_THREADS, Need, directives, extraction_need, training_need
from oncoarena.specs import HypothesisSpec, Resources, TrainingSpec
from studies import entered_hypotheses

AWS = AwsSettings(
    region="eu-central-1",
    results="s3://bucket/studies",
    raw_buckets=(),
    allowed_regions=("eu-central-1",),
    queues={"memory": "q-memory", "gpu": "q-gpu", "small": "q-small"},
    job_definitions={name: f"d-{name}" for name in ("cpu", "tensorflow", "torch", "cuda")},
)
PORTABLE = {"mem_mb", "gpu", "runtime"}


def evaluated(found, *, attempt=1, threads=1):
    """The values of a rule's resources, asked for as Snakemake does: by the names of the arguments."""
    at_hand = {"wildcards": None, "input": None, "attempt": attempt, "threads": threads}
    return {
        name: value(**{key: at_hand[key] for key in inspect.signature(value).parameters})
        for name, value in found.items()
    }


def entry(framework, gpu):
    return HypothesisSpec(
        TrainingSpec("name", "module", framework), "Title", "claim", Resources(2, 3000, gpu, 90), "Claim."
    )


def test_directives__one_machine_is_asked_for_nothing_of_aws_or_slurm():
    assert evaluated(directives(Need(), environ={})) == {"mem_mb": 2000, "gpu": 0, "runtime": 60}


def test_directives__twins_for_aws_say_what_the_portable_ones_say():
    need = Need(threads=4, mem_mb=3000, gpu=1, runtime=10, queue="gpu", image="torch")
    assert evaluated(directives(need, AWS, environ={}), attempt=2, threads=4) == {
        "mem_mb": 6000,
        "gpu": 1,
        "runtime": 20,
        "aws_batch_job_queue": "q-gpu",
        "aws_batch_job_definition": "d-torch",
        "aws_batch_vcpu": 4,
        "aws_batch_mem_mb": 6000,
        "aws_batch_gpu": 1,
        "aws_batch_task_timeout": 1200,
    }


def test_directives__workers_that_do_not_run_need_no_memory():
    shared = Need(threads=32, mem_mb=48_000, shared=True)
    assert evaluated(directives(shared, environ={}), threads=2)["mem_mb"] == 3000
    whole = Need(threads=4, mem_mb=4000)
    assert evaluated(directives(whole, environ={}), threads=2)["mem_mb"] == 4000


def test_directives__partitions_of_slurm_are_those_of_the_environment():
    environ = {"ONCOARENA_SLURM_GPU_PARTITION": "a100", "HOME": "/home/user"}
    with_gpu, without = (evaluated(directives(Need(gpu=n), environ=environ)) for n in (1, 0))
    assert with_gpu["slurm_partition"] == "a100"
    # The cluster's own default.
    assert without["slurm_partition"] == ""
    assert set(evaluated(directives(Need(gpu=1), environ={}))) == PORTABLE


@pytest.mark.parametrize(
    ("framework", "gpu", "queue", "image"),
    [
        ("tensorflow", 1, "gpu", "tensorflow"),
        ("torch", 2, "gpu", "torch"),
        ("numpy", 1, "gpu", "cuda"),
        ("numpy", 0, "small", "cpu"),
        ("sklearn", 0, "small", "cpu"),
        ("torch", 0, "small", "torch"),
    ],
)
def test_training_need__container_is_that_of_the_framework(framework, gpu, queue, image):
    assert training_need(entry(framework, gpu)) == Need(2, 3000, gpu, 90, queue, image)


def test_training_need__claims_get_a_gpu_and_controls_a_small_node():
    queues = {spec.role: set() for spec in entered_hypotheses()}
    for spec in entered_hypotheses():
        queues[spec.role].add(training_need(spec).queue)
    assert queues == {"claim": {"gpu"}, "baseline": {"small"}, "control": {"small"}}


def shard(n_objects, gigabytes):
    return {"first": 10, "end": 10 + n_objects, "n_bytes": int(gigabytes * 1e9)}


def assay(name, matrix=None):
    return SimpleNamespace(name=name, matrix=matrix)


def test_extraction_need__matrix_is_in_memory_as_a_whole():
    small, large = (extraction_need(assay("expression", "m.tsv"), shard(100, 0), mb) for mb in (1, 1000))
    assert (small.threads, small.mem_mb, large.mem_mb) == (1, 4000, 20_000)
    assert large.queue == "memory"


def test_extraction_need__large_objects_pass_through_and_tables_are_held():
    passing = extraction_need(assay("alignments"), shard(4, 200), 0)
    held = extraction_need(assay("expression"), shard(500, 0.5), 0)
    assert passing.threads == held.threads == MOST_THREADS
    assert passing.mem_mb == MOST_THREADS * 1500
    assert held.mem_mb == MOST_THREADS * (1500 + 80)


@given(n_objects=st.integers(1, 5000), gigabytes=st.floats(0, 2000), more=st.floats(1, 10))
@settings(deadline=None, max_examples=100)
def test_extraction_need__more_bytes_never_ask_for_less(n_objects, gigabytes, more):
    first, second = (
        extraction_need(assay("variants"), shard(n_objects, size), 0)
        for size in (gigabytes, gigabytes * more)
    )
    assert 2 <= first.threads <= second.threads <= MOST_THREADS
    assert first.mem_mb <= second.mem_mb
    # Every shard has the time to be read at 5 MB/s a thread.
    assert 60 * second.runtime * second.threads * 5 >= gigabytes * more * 1000
