"""The plan of a study as text: what it takes, with everything that its figures rest on."""

from typing import TextIO

import pandas as pd

from oncoarena import store
from oncoarena.costs import Limits, Step, StudyPlan, bytes_of_objects, estimate, measured_seconds
from oncoarena.prices import QUEUES, read_prices, read_rates
from oncoarena.samples import read_samples
from oncoarena.study import Study

COLUMNS = {
    "step": "<",
    "queue": "<",
    "jobs": ">",
    "node": "<",
    "vCPU": ">",
    "GPU": ">",
    "GB memory": ">",
    "GB read": ">",
    "vCPU h": ">",
    "GPU h": ">",
    "h each": ">",
    "USD": ">",
    "USD spot": ">",
    "hours are": "<",
}
"""Columns of the printed plan and how they are aligned."""


def print_plan(
    study: Study,
    stream: TextIO,
    *,
    samples: pd.DataFrame | None = None,
    prices: str | None = None,
    rates: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Print what a study takes, after one look at its sheet, its objects' sizes and an earlier run.

    Parameters: ``samples`` the checked sheet, where the caller has read it already; ``prices`` and ``rates`` tables to
    use instead of those that come with oncoarena. A sheet that rules will make need not be there.
    """
    if samples is None and store.exists(study.samples):
        samples = read_samples(study.samples, **study.sheet_needs())
    plan = estimate(
        study,
        bytes_of_objects(study, samples),
        prices=read_prices(prices),
        rates=read_rates(rates),
        limits=limits,
        measured=measured_seconds(study),
        n_samples=None if samples is None else len(samples),
    )
    stream.write(plan_text(plan))


def plan_text(plan: StudyPlan) -> str:
    """Set a plan as text: a table of its steps, totals, and what they assume."""
    rows = [list(COLUMNS), *(_cells(step) for step in plan.steps)]
    sums = [plan.total(name) for name in ("vcpu_hours", "gpu_hours", "usd", "usd_spot")]
    n_jobs, n_bytes = int(plan.total("n_jobs")), plan.total("n_bytes")
    total = ["together", "", f"{n_jobs:,}", "", "", "", "", _number(n_bytes / 1e9), *map(_number, sums[:2])]
    rows.append([*total, "", *map(_number, sums[2:]), ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(
            f"{cell:{align}{width}}" for cell, align, width in zip(row, COLUMNS.values(), widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    lines.insert(-1, "-" * max(map(len, lines)))
    who = "samples not known yet" if plan.n_samples is None else f"{plan.n_samples:,} samples"
    title = f"Plan of study {plan.study}: {who}, {n_jobs:,} jobs, on AWS from nothing to the report"
    return "\n".join([title, "", *lines, "", *_remarks(plan), ""])


def _cells(step: Step) -> list[str]:
    node = step.nodes[0][0] + (f" and {len(step.nodes) - 1} more" if len(step.nodes) > 1 else "")
    return [
        *(step.name, step.queue, f"{step.n_jobs:,}", node),
        *(str(step.most.threads), str(step.most.gpu), _number(step.most.mem_mb / 1000)),
        *(_number(step.n_bytes / 1e9), _number(step.vcpu_hours), _number(step.gpu_hours)),
        *(_number(step.longest_hours), _number(step.usd), _number(step.usd_spot), step.basis),
    ]


def _number(value: float) -> str:
    """Write a figure with three digits at most that mean something."""
    if value == 0:
        return "0"
    if value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _remarks(plan: StudyPlan) -> list[str]:
    """Say the totals and everything that they rest on."""
    services, limits = plan.prices.services, plan.limits
    n_gb = plan.total("n_bytes") / 1e9
    n_gets, n_puts, requests = plan.total("n_gets"), plan.total("n_puts"), plan.requests_usd
    on_demand, spot = plan.total("usd") + requests, plan.total("usd_spot") + requests
    queues = ", ".join(f"{getattr(limits, queue)} ({queue})" for queue in QUEUES)
    lines = [
        f"Price      at most USD {_number(on_demand)} on demand, USD {_number(spot)} on Spot, of which S3 requests "
        f"{_number(requests)} ({n_gets:,.0f} GET, {n_puts:,.0f} PUT)",
        f"Clock      at most {_number(plan.wall_hours())} h, of which extraction "
        f"{_number(plan.wall_hours('extract'))}, with vCPUs at a time: {queues}",
        f"Prices     {plan.prices.region}, as remembered on {plan.prices.date}: check before relying on them "
        f"({plan.prices.where})",
        "Hours      by rate: the cost of a byte as measured on one machine, not on AWS; at most: the job's time limit;",
        "           measured: in an earlier run of this study, wherever it ran; each job is billed "
        f"{plan.rates['start']:g} min more, for its node",
        f"Left out   keeping the data (USD {_number(n_gb * services['s3_storage'])} a month), a second attempt of a "
        "job, disks, logs, taxes",
    ]
    if n_gb >= 1:
        more = {
            "if the data lay in another region": n_gb * services["transfer_region"],
            "through a NAT gateway": n_gb * services["nat_gateway"],
            "with SSE-KMS and no bucket key": n_gets / 1000 * services["kms"],
        }
        lines.append("More USD   " + ", ".join(f"{_number(usd)} {case}" for case, usd in more.items()))
    lines += [f"Not known  {line}" for line in plan.unknown]
    return lines + [f"WARNING    {line}" for line in plan.warnings]
