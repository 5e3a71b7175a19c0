"""What AWS asks and what work needs: dated tables in ``cost_data/``, made to be edited, read and checked here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.resources import Need
from oncoarena.schema import suggestion

DATA = Path(__file__).parent / "cost_data"

QUEUES = ("memory", "gpu", "small")

USABLE = 0.93
"""Share of a node's memory that is left to jobs."""

PRICE_COLUMNS = (
    *("item", "kind", "queue", "vcpus", "memory_gib", "gpus", "gbps"),
    *("usd", "unit", "spot_discount", "region", "date", "source"),
)
RATE_COLUMNS = ("item", "value", "unit", "date", "source")
SERVICES = ("s3_get", "s3_put", "s3_storage", "transfer_region", "nat_gateway", "kms")
RATES = ("s3", "request", "efficiency", "start")
"""Rates that every plan needs; those of assays are named as the assay is."""


@dataclass(frozen=True)
class Instance:
    """A type of node."""

    name: str
    queue: str
    vcpus: int
    memory_gib: float
    gpus: int
    gbps: float
    """Network at all times, 10^9 bits a second."""
    usd: float
    """An hour on demand."""
    spot_discount: float

    def share(self, need: Need) -> float:
        """Return the part of this node that a job takes; above 1 it does not fit."""
        memory = need.mem_mb / (self.memory_gib * 1024 * USABLE)
        gpus = (need.gpu / self.gpus if self.gpus else np.inf) if need.gpu else 0.0
        return max(need.threads / self.vcpus, memory, gpus)


@dataclass(frozen=True)
class Prices:
    """The table of prices."""

    instances: tuple[Instance, ...]
    services: Mapping[str, float]
    """USD for 1,000 requests, a GB or a GB-month."""
    region: str
    date: str
    where: str

    def cheapest(self, need: Need) -> Instance:
        """Return the node of the job's queue on which it costs least; the first of equals."""
        fitting = [item for item in self.instances if item.queue == need.queue and item.share(need) <= 1]
        if not fitting:
            raise InputError(
                f"{self.where}: no instance of queue {need.queue!r} has {need.threads} vCPUs, {need.mem_mb} MB and "
                f"{need.gpu} GPUs; add one that your queue may start, or ask for less"
            )
        return min(fitting, key=lambda item: round(item.usd * item.share(need), 9))


def read_prices(uri: str | None = None) -> Prices:
    """Read the table of prices, by default the one that comes with oncoarena.

    Raises InputError naming file, row and column.
    """
    where = uri or str(DATA / "prices.tsv")
    instances, services, regions, dates = [], {}, set(), []
    for row, cells in _rows(where, PRICE_COLUMNS):
        number = _numbers(where, row, cells)
        regions.add(cells["region"])
        dates.append(cells["date"])
        if cells["kind"] == "service":
            services[cells["item"]] = number("usd", 0)
        elif cells["kind"] == "instance":
            if cells["queue"] not in (*QUEUES, "-"):
                raise InputError(
                    f"{where}: row {row}: column 'queue': found {cells['queue']!r}, expected {', '.join(QUEUES)} or -"
                )
            sizes = [number("vcpus", 1, whole=True), number("memory_gib", 0.1), number("gpus", 0, whole=True)]
            rest = [number("gbps", 0.01), number("usd", 0), number("spot_discount", 0, 1)]
            instances.append(Instance(cells["item"], cells["queue"], *sizes, *rest))
        else:
            raise InputError(
                f"{where}: row {row}: column 'kind': found {cells['kind']!r}, expected instance or service"
            )
    _check_items(where, services, SERVICES)
    if len(regions) > 1:
        raise InputError(f"{where}: prices of several regions ({', '.join(sorted(regions))}); keep one")
    return Prices(tuple(instances), services, regions.pop(), min(dates), where)


def read_rates(uri: str | None = None) -> dict[str, float]:
    """Read the table of rates, by default the one that comes with oncoarena; see its header for units.

    Raises InputError naming file, row and column.
    """
    where = uri or str(DATA / "rates.tsv")
    rates = {}
    for row, cells in _rows(where, RATE_COLUMNS):
        positive = cells["item"] == "efficiency"
        rates[cells["item"]] = _numbers(where, row, cells)("value", 0.01 if positive else 0)
    _check_items(where, rates, RATES)
    return rates


def _rows(where: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield row number and cells of a tab-separated table whose comments begin with #."""
    with store.open_input(where) as stream:
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    header, seen = None, {}
    for row, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if header is None:
            header = cells
            absent = [name for name in columns if name not in header]
            if absent:
                raise InputError(
                    f"{where}: row {row}: column {absent[0]!r} is missing{suggestion(absent[0], header)}; expected "
                    f"{', '.join(columns)}, separated by tabs"
                )
            continue
        if len(cells) != len(header):
            raise InputError(f"{where}: row {row}: has {len(cells)} cells, the header has {len(header)}")
        found = dict(zip(header, cells, strict=True))
        if found["item"] in seen:
            raise InputError(
                f"{where}: row {row}: {found['item']!r} stands on row {seen[found['item']]} too; keep one"
            )
        seen[found["item"]] = row
        yield row, found
    if not seen:
        raise InputError(f"{where}: has no rows; expected {', '.join(columns)}, separated by tabs")


def _numbers(where: str, row: int, cells: Mapping[str, str]) -> Callable[..., Any]:
    """Return a function that reads one cell of a row as a number within bounds."""

    def number(column: str, least: float, most: float = 1e9, whole: bool = False) -> float:
        try:
            value = int(cells[column]) if whole else float(cells[column])
        except ValueError:
            value = np.nan
        if not least <= value <= most:
            raise InputError(
                f"{where}: row {row}: column {column!r}: found {cells[column]!r}, expected a "
                f"{'whole ' if whole else ''}number from {least:g} to {most:g}"
            )
        return value

    return number


def _check_items(where: str, found: Mapping[str, float], needed: Sequence[str]) -> None:
    absent = [name for name in needed if name not in found]
    if absent:
        raise InputError(f"{where}: item {absent[0]!r} is missing{suggestion(absent[0], found)}; add its row")
