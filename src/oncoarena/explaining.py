"""From what a hypothesis says of each sample to a table of features: how much each of them speaks for a class."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from oncoarena.attribution import Attribution
from oncoarena.cohort import Cohort

COLUMNS = {
    "label": str,
    "block": str,
    "feature": str,
    "mean_abs": float,
    "mean": float,
    "correlation": float,
    "n_samples": np.int64,
}
"""Of the table of one split, with their types. ``label`` is "" for all classes together."""

MAX_FEATURES = 20_000
"""Rows for all classes together."""
MAX_FEATURES_OF_CLASS = 100
"""Rows for one class."""

MAX_SAMPLES = 256
"""Test samples of a split that are explained, evenly spaced: gradients of a network cost as much as training it."""

BATCH_ROWS = 256
BATCH_VALUES = 1 << 25
"""Samples explained at once, and values (128 MB of float32) of their blocks: what bounds the memory."""

SUM_RTOL, SUM_ATOL = 1e-3, 1e-4
"""How far the contributions of a sample may be from the score less its baseline, where they are said to be exact."""


def explained_classes(labels: np.ndarray, n_classes: int) -> list[int]:
    """Choose the classes to explain: those with a training sample; of two the second, as the first is its mirror.

    Parameters: ``labels`` (n_samples,) codes of the training part. Returns none where there is one class only.
    """
    present = np.unique(labels).tolist()
    if len(present) < 2:
        return []
    return [1] if n_classes == 2 else present


def explain(
    attribute: Callable[[Cohort, int], Attribution],
    cohort: Cohort,
    labels: Sequence[int],
    classes: Sequence[str],
    source: str,
) -> tuple[pd.DataFrame, dict[str, str | bool]]:
    """Average the contributions of every feature over the samples of a cohort, ``MAX_SAMPLES`` of them at most.

    One class and one batch of samples are in memory at a time. Parameters: ``attribute`` of a fitted hypothesis,
    named ``source`` in messages; ``labels``, codes of at least one class to explain, into ``classes``.
    Returns a table with ``COLUMNS``, the largest mean_abs first (mean over samples of the absolute contribution, for
    "" over the classes too; mean, which keeps the sign, and the correlation of a feature's contribution with its value,
    which says whether high values speak for the class, are NaN there), and the method and whether it is exact.
    Raises ValueError if an attribution breaks its promise.
    """
    if len(cohort) > MAX_SAMPLES:
        cohort = cohort.take(np.linspace(0, len(cohort) - 1, MAX_SAMPLES).round().astype(np.int64))
    n_features = sum(len(block.features) for block in cohort.blocks.values())
    step = max(1, min(BATCH_ROWS, BATCH_VALUES // max(n_features, 1)))
    together: dict[str, np.ndarray] = {}
    parts, about = [], {}
    for label in labels:
        absolute: dict[str, np.ndarray] = {}
        signed: dict[str, np.ndarray] = {}
        moments: dict[str, np.ndarray] = {}
        origins: dict[str, np.ndarray] = {}
        for first in range(0, len(cohort), step):
            batch = cohort.take(np.arange(first, min(first + step, len(cohort))))
            found = attribute(batch.copy(), label)  # whatever it does to its tables, the names below stay
            check_attribution(found, batch, classes[label], source)
            about = {"method": found.method, "exact": bool(found.exact)}
            for name, values in found.contributions.items():
                _add(signed, name, values.sum(axis=0, dtype=np.float64))
                _add(absolute, name, np.abs(values).sum(axis=0, dtype=np.float64))
                measured = batch.blocks[name].values
                origin = origins.setdefault(name, np.nan_to_num(measured[0]))
                _add(moments, name, _moments(measured - origin, values))
            del found
        for name, total in absolute.items():
            _add(together, name, total / len(labels))
        leaning = {name: _correlation(sums) for name, sums in moments.items()}
        parts.append(_rows(classes[label], absolute, signed, leaning, cohort, MAX_FEATURES_OF_CLASS))
    unsigned = {name: np.full(len(total), np.nan) for name, total in together.items()}
    parts.insert(0, _rows("", together, unsigned, unsigned, cohort, MAX_FEATURES))
    return pd.concat(parts, ignore_index=True).astype(COLUMNS), about


def no_explanation() -> pd.DataFrame:
    """The table of a hypothesis that does not explain itself."""
    return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def check_attribution(found: Attribution, cohort: Cohort, class_name: str, source: str) -> None:
    """Check what a hypothesis says of some samples; raise ValueError naming the broken rule."""
    rule = f"{source}: attribute, class {class_name!r}:"
    n_samples = len(cohort)
    for name, values in (("score", found.score), ("baseline", found.baseline)):
        if np.shape(values) != (n_samples,) or not np.isfinite(values).all():
            raise ValueError(
                f"{rule} {name} has shape {np.shape(values)}, expected {n_samples} finite values"
            )
    unknown = [name for name in found.contributions if name not in cohort.blocks]
    if unknown or not found.contributions:
        raise ValueError(
            f"{rule} found contributions of the blocks {list(found.contributions)}, expected some of those of the "
            f"cohort: {list(cohort.blocks)}"
        )
    total = np.zeros(n_samples)
    for name, values in found.contributions.items():
        expected = (n_samples, len(cohort.blocks[name].features))
        if np.shape(values) != expected:
            raise ValueError(f"{rule} block {name}: found shape {np.shape(values)}, expected {expected}")
        total += values.sum(axis=1, dtype=np.float64)
    # A value that is not finite leaves no finite sum.
    if not np.isfinite(total).all():
        raise ValueError(
            f"{rule} contributions of sample {_first(cohort, ~np.isfinite(total))} are not finite"
        )
    difference = np.asarray(found.score, np.float64) - found.baseline
    off = np.abs(total - difference) > SUM_ATOL + SUM_RTOL * np.abs(difference)
    if found.exact and off.any():
        row = int(off.argmax())
        raise ValueError(
            f"{rule} is said to be exact, but the contributions of sample {_first(cohort, off)} sum to "
            f"{total[row]:.6g}, and its score less its baseline is {difference[row]:.6g}"
        )


def _first(cohort: Cohort, rows: np.ndarray) -> str:
    return repr(str(cohort.sample_ids[int(rows.argmax())]))


def _add(totals: dict[str, np.ndarray], name: str, values: np.ndarray) -> None:
    totals[name] = totals[name] + values if name in totals else values


def _moments(values: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    """Sum what a correlation needs (6, n_features), over the samples in which a feature was measured."""
    known = np.isfinite(values)
    x, c = np.where(known, values, np.float32(0)), np.where(known, contributions, np.float32(0))
    sums = [known.sum(axis=0), x.sum(axis=0, dtype=np.float64), c.sum(axis=0, dtype=np.float64)]
    pairs = [np.einsum("ij,ij->j", a, b, dtype=np.float64) for a, b in ((x, x), (c, c), (x, c))]
    return np.array([*sums, *pairs], dtype=np.float64)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """Correlate contributions with values (n_features,), 0 where one of the two does not vary."""
    n, x, c, xx, cc, xc = moments
    n = np.maximum(n, 1)
    norm = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(cc - c * c / n, 0))
    # What is left of a constant is rounding.
    varies = norm > 1e-9 * np.sqrt(xx * cc)
    return np.clip(np.divide(xc - x * c / n, norm, out=np.zeros_like(norm), where=varies), -1, 1)


def _rows(
    label: str,
    absolute: Mapping[str, np.ndarray],
    signed: Mapping[str, np.ndarray],
    leaning: Mapping[str, np.ndarray],
    cohort: Cohort,
    n_rows: int,
) -> pd.DataFrame:
    """Lay out the features with the largest sums, of all blocks together; the first stays first where equal."""
    tables = [cohort.blocks[name].features for name in absolute]
    size = np.concatenate(list(absolute.values())) / len(cohort)
    mean = np.concatenate([signed[name] for name in absolute]) / len(cohort)
    chosen = np.argsort(-size, kind="stable")[:n_rows]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    block_of = np.searchsorted(starts, chosen, side="right") - 1
    features = np.empty(len(chosen), dtype=object)
    for number, table in enumerate(tables):
        mine = block_of == number
        features[mine] = table["id"].iloc[chosen[mine] - starts[number]].to_numpy(dtype=object)
    return pd.DataFrame(
        {
            "label": label,
            "block": np.array(list(absolute), dtype=object)[block_of],
            "feature": features,
            "mean_abs": size[chosen],
            "mean": mean[chosen],
            "correlation": np.concatenate([leaning[name] for name in absolute])[chosen],
            "n_samples": len(cohort),
        }
    )
