"""What a study will take on AWS before it runs: jobs, nodes, bytes, requests, hours, and a price with its assumptions.

Reading is estimated by the byte, from what was measured. How long a model trains nobody knows before: its time limit is
the bound, "at most", until an earlier run of the study has measured it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.benchmarks import read_benchmarks
from oncoarena.listing import sizes
from oncoarena.objects import CHUNK_BYTES
from oncoarena.plan import benchmarks, deal_shards, most_shards
from oncoarena.prices import QUEUES, Prices
from oncoarena.resources import EVALUATE, FREEZE, REPORT, SPLIT, Need, extraction_need, training_need
from oncoarena.study import AssayPlan, Study

REQUESTS_BEFORE_DATA = 1
"""Requests that a worker waits for with each object beside its data: some others are made while it reads."""

MEASURED, BY_RATE, AT_MOST = "measured", "by rate", "at most"
"""Where hours come from: an earlier run of the study, the cost of a byte, a job's time limit."""


@dataclass(frozen=True)
class Limits:
    """vCPUs that each queue may start at a time; the defaults are those of infra/oncoarena.yaml."""

    memory: int = 256
    gpu: int = 64
    small: int = 32


@dataclass(frozen=True)
class Job:
    """One job of a plan."""

    need: Need
    hours: float
    """From its start to its end, without the start of its node."""
    basis: str


@dataclass(frozen=True)
class Step:
    """Jobs of one kind on one queue."""

    name: str
    stage: int
    """Jobs of a stage wait for all of the stage before."""
    queue: str
    n_jobs: int
    nodes: tuple[tuple[str, int], ...]
    """Types of node and how many jobs each gets."""
    largest_node_vcpus: int
    most: Need
    """The largest request of a job, resource by resource."""
    vcpu_hours: float
    node_vcpu_hours: float
    """Those of the share of a node that a job takes: a GPU comes with more than the job asks for."""
    gpu_hours: float
    longest_hours: float
    usd: float
    """On demand."""
    usd_spot: float
    basis: str
    n_bytes: int = 0
    n_gets: int = 0
    n_puts: int = 0


@dataclass(frozen=True)
class StudyPlan:
    """What a study takes, from an empty results folder to its report."""

    study: str
    n_samples: int | None
    steps: tuple[Step, ...]
    prices: Prices
    rates: Mapping[str, float]
    limits: Limits
    unknown: tuple[str, ...] = ()
    """What could not be counted, and why."""
    warnings: tuple[str, ...] = ()

    def total(self, name: str) -> float:
        """Sum a figure over the steps."""
        return sum(getattr(step, name) for step in self.steps)

    @property
    def requests_usd(self) -> float:
        """Price of the S3 requests."""
        get, put = self.prices.services["s3_get"], self.prices.services["s3_put"]
        return (self.total("n_gets") * get + self.total("n_puts") * put) / 1000

    def wall_hours(self, name: str = "") -> float:
        """Hours on the clock, of all or of the steps whose name begins so, with as many nodes as the limits allow."""
        hours = 0.0
        for stage in sorted({step.stage for step in self.steps}):
            steps = [item for item in self.steps if item.stage == stage and item.name.startswith(name)]
            for_each = []
            for queue in {item.queue for item in steps}:
                here = [item for item in steps if item.queue == queue]
                busy = sum(item.node_vcpu_hours for item in here) / getattr(self.limits, queue)
                for_each.append(max(busy, *(item.longest_hours for item in here)))
            hours += max(for_each, default=0.0)
        return hours


def estimate(
    study: Study,
    n_bytes: Mapping[str, np.ndarray],
    *,
    prices: Prices,
    rates: Mapping[str, float],
    limits: Limits | None = None,
    measured: Mapping[str, float] | None = None,
    n_samples: int | None = None,
) -> StudyPlan:
    """Estimate what a study takes on AWS, with its data on S3 in the region of its nodes.

    Parameters: ``n_bytes`` of each assay the bytes of its objects in the order of the sheet, (n_samples,) int64, or
    of its matrix, (1,), -1 where not known, and no entry where the sheet is not there yet; ``measured`` seconds of jobs
    of an earlier run, by their names in ``plan.benchmarks``.
    """
    measured, limits = measured or {}, limits or Limits()
    unknown, steps, n_shards = [], [], {}
    for assay in study.assays:
        known = n_bytes.get(assay.name)
        if known is None or not len(known):
            unknown.append(f"{assay.name}: its objects are not known before the sample sheet is made")
            known = np.zeros(0, np.int64)
        elif (known < 0).any():
            what = "the matrix is" if assay.matrix else f"{int((known < 0).sum()):,} objects are"
            unknown.append(f"{assay.name}: {what} not there yet and counted as empty")
        if assay.name not in rates:
            unknown.append(f"{assay.name}: its rate is not in rates.tsv and counted as nothing")
        step, n_shards[assay.name] = _extraction(study, assay, np.maximum(known, 0), prices, rates)
        steps.append(step)

    def bounded(names: Sequence[str], need: Need) -> list[Job]:
        return [
            Job(need, measured[name] / 3600, MEASURED)
            if name in measured
            else Job(need, need.runtime / 60, AT_MOST)
            for name in names
        ]

    def of_kind(name: str, stage: int, jobs: Sequence[Job]) -> None:
        for queue in QUEUES:
            of_queue = [job for job in jobs if job.need.queue == queue]
            if of_queue:
                steps.append(_step(name, stage, of_queue, prices, rates))

    freezing = [f"freeze/{assay.name}" for assay in study.assays]
    of_kind("freeze", 2, bounded(freezing, FREEZE))
    of_kind("split", 3, bounded(["split"], SPLIT))
    names = benchmarks(study, n_shards)
    for kind in ("train", "train_again"):
        jobs = []
        for spec in study.hypotheses:
            of_spec = [name for name in names if name.startswith(f"{kind}/{spec.id}.")]
            jobs += bounded(of_spec, training_need(spec))
        of_kind(kind.replace("_", " "), 4, jobs)
    of_kind("evaluate", 5, bounded(["evaluate"], EVALUATE))
    of_kind("report", 6, bounded(["report"], REPORT))
    steps.sort(key=lambda step: step.stage)
    return StudyPlan(
        study.name, n_samples, tuple(steps), prices, rates, limits, tuple(unknown), _waiting(steps, limits)
    )


def _extraction(
    study: Study, assay: AssayPlan, n_bytes: np.ndarray, prices: Prices, rates: Mapping[str, float]
) -> tuple[Step, int]:
    """Plan the extraction of an assay from the bytes of its objects; return the step and its number of shards."""
    if assay.matrix is not None:
        shards = [{"first": 0, "end": 1, "n_bytes": int(n_bytes.sum())}]
    else:
        shards = deal_shards(n_bytes, study.shard_samples, study.shard_gb, most_shards(study))
    n_blocks = len(assay.blocks())
    jobs = []
    for shard in shards:
        need = extraction_need(assay, shard, shard["n_bytes"] / 1e6)
        node = prices.cheapest(need)
        n_objects = shard["end"] - shard["first"]
        by_byte, by_request = reading_seconds(assay.name, shard["n_bytes"], n_objects, rates)
        reading = by_byte / rates["efficiency"] / need.threads
        arriving = 8 * shard["n_bytes"] / (1e9 * node.gbps * node.share(need))
        opening = by_request / need.threads
        # Before and after: the facts of each object, and what was kept of it, block by block.
        asking = (1 + n_blocks) * n_objects * rates["request"] / store.QUESTIONS_AT_ONCE
        jobs.append(Job(need, (max(reading + opening, arriving) + asking) / 3600, BY_RATE))
    n_gets, n_puts = _requests(n_bytes, getattr(assay.options, "part_mb", 0), n_blocks)
    if not jobs:
        need = extraction_need(assay, {"first": 0, "end": 1, "n_bytes": 0}, 0)
        jobs = [Job(need, 0.0, BY_RATE)]
    step = _step(f"extract {assay.name}", 1, jobs, prices, rates, int(n_bytes.sum()), n_gets, n_puts)
    return step, len(jobs)


def reading_seconds(
    assay: str, n_bytes: int, n_objects: int, rates: Mapping[str, float], is_remote: bool = True
) -> tuple[float, float]:
    """Return the seconds that one process spends on the bytes of objects, and those that it waits for requests."""
    per_gb = rates.get(assay, 0.0) + (rates["s3"] if is_remote else 0.0)
    waiting = REQUESTS_BEFORE_DATA * n_objects * rates["request"] if is_remote else 0.0
    return n_bytes / 1e9 * per_gb, waiting


def _requests(n_bytes: np.ndarray, part_mb: int, n_blocks: int) -> tuple[int, int]:
    """Count GET and HEAD, and PUT and LIST, of reading objects: in ranges, in parts where their index allows."""
    n_parts = np.maximum(1, -(-n_bytes // (part_mb * 1_000_000))) if part_mb else np.ones_like(n_bytes)
    indexed = int((n_parts > 1).sum())
    ranges = int((-(-n_bytes // CHUNK_BYTES)).sum())
    headers = int(np.where(n_parts > 1, n_parts, 0).sum())
    facts = len(n_bytes) + int(n_parts.sum()) + 5 * indexed
    kept = n_blocks * len(n_bytes)
    listings = 3 * -(-len(n_bytes) // 1000)
    return ranges + headers + facts + kept, len(n_bytes) + listings


def _step(
    name: str,
    stage: int,
    jobs: Sequence[Job],
    prices: Prices,
    rates: Mapping[str, float],
    n_bytes: int = 0,
    n_gets: int = 0,
    n_puts: int = 0,
) -> Step:
    """Add up jobs of one queue: each takes its share of the node on which it costs least."""
    nodes: Counter[str] = Counter()
    largest = 0
    vcpu_hours = node_vcpu_hours = gpu_hours = usd = usd_spot = 0.0
    billed = [job.hours + rates["start"] / 60 for job in jobs]
    for job, hours in zip(jobs, billed, strict=True):
        node = prices.cheapest(job.need)
        nodes[node.name] += 1
        largest = max(largest, node.vcpus)
        vcpu_hours += hours * job.need.threads
        node_vcpu_hours += hours * node.vcpus * node.share(job.need)
        gpu_hours += hours * job.need.gpu
        usd += hours * node.usd * node.share(job.need)
        usd_spot += hours * node.usd * node.share(job.need) * (1 - node.spot_discount)
    needs = [job.need for job in jobs]
    largest_need = (max(getattr(need, key) for need in needs) for key in ("threads", "mem_mb", "gpu"))
    most = Need(*largest_need, queue=needs[0].queue)
    bases = {job.basis for job in jobs}
    return Step(
        name=name,
        stage=stage,
        queue=needs[0].queue,
        n_jobs=len(jobs),
        nodes=tuple(nodes.most_common()),
        largest_node_vcpus=largest,
        most=most,
        vcpu_hours=vcpu_hours,
        node_vcpu_hours=node_vcpu_hours,
        gpu_hours=gpu_hours,
        longest_hours=max(billed),
        usd=usd,
        usd_spot=usd_spot,
        basis=bases.pop() if len(bases) == 1 else AT_MOST,
        n_bytes=n_bytes,
        n_gets=n_gets,
        n_puts=n_puts,
    )


def _waiting(steps: Sequence[Step], limits: Limits) -> tuple[str, ...]:
    """Say which jobs would wait for ever."""
    return tuple(
        f"{step.name}: a job needs a node of {step.largest_node_vcpus} vCPUs, queue {step.queue} may start "
        f"{getattr(limits, step.queue)}: it would wait for ever; raise the limit in infra/"
        for step in steps
        if step.largest_node_vcpus > getattr(limits, step.queue)
    )


def bytes_of_objects(study: Study, samples: pd.DataFrame | None) -> dict[str, np.ndarray]:
    """Look up the bytes of every object of a study, as ``estimate`` takes them; ``samples`` None: no sheet yet."""
    found = {}
    for assay in study.assays:
        if assay.matrix is None and samples is None:
            continue
        uris = samples[assay.column].tolist() if assay.matrix is None else [assay.matrix]
        known = sizes(uris)
        found[assay.name] = np.array([-1 if known[uri] is None else known[uri] for uri in uris], np.int64)
    return found


def measured_seconds(study: Study) -> dict[str, float]:
    """Read how long the jobs of an earlier run of the study took, by their names in ``plan.benchmarks``."""
    names = benchmarks(study, {assay.name: 0 for assay in study.assays})
    uris = {store.join(study.results, "benchmarks", f"{name}.tsv"): name for name in names}
    known = sizes(uris)
    table = read_benchmarks([uri for uri in uris if known[uri]])
    jobs = table["step"] + np.where(table["job"] == "", "", "/") + table["job"]
    return {name: seconds for name, seconds in zip(jobs, table["seconds"], strict=True) if seconds == seconds}
