"""A judged study of made-up numbers, in the shapes that the referee writes, and a reader of the pages made of it."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd

from oncoarena.referee.operating_points import OPERATING_COLUMNS
from oncoarena.reporting.tables import COLUMNS, FURTHER

COMPETITORS = (
    ("wide_deep", "Wide and deep", "claim"),
    ("sparse_markers", "Sparse markers", "claim"),
    ("l2_logistic", "L2 logistic regression", "baseline"),
    ("prior_only", "Prior only", "control"),
    ("covariates_only", "Covariates only", "control"),
)
NASTY = "<script>alert('x')</script>&\"<b>"
"""A name that would break a page that does not escape it."""

CLAIM = """The signal is additive over `many` features.

Refuted where a model of few features does better.
Reference: Cheng 2016, doi:10.1145/2988450.2988454.
"""


def make_study(
    classes=("BL", "EWS", "NB", "RMS"),
    competitors=COMPETITORS,
    n_test=20,
    strata=(),
    absent=("covariates_only",),
) -> dict:
    """Draw a study's tables from seeded noise, in the shapes that the referee writes."""
    rng = np.random.default_rng(0)
    k, n = len(classes), 4 * n_test
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "label": [classes[i % k] for i in range(n)],
            "site": ["Lund" if i % 3 else "Nagoya" for i in range(n)],
        }
    )
    roles = np.where(np.arange(n) < n_test, "test", "train")
    splits = pd.DataFrame({"repeat": 0, "fold": 0, "sample_id": samples["sample_id"], "role": roles})
    names = [name for name, _, _ in competitors if name not in absent]
    evaluation, comparison, curves, confusion, runs = [], [], [], [], []
    score = dict(zip(names, np.linspace(0.95, 0.25, len(names)), strict=True))
    for name in names:
        for stratum in ("all", *strata):
            for metric, value in (("accuracy", score[name]), ("log_loss", 2 - score[name])):
                evaluation.append((name, metric, stratum, value, value - 0.1, value + 0.04, n_test, n_test))
        x = np.linspace(0, 1, 11)
        for label in classes:
            curves += [(name, "roc", label, a, a ** (1.01 - score[name]), n_test) for a in x]
            curves += [(name, "calibration", label, a, rng.uniform(), 4) for a in x[1:-1:3]]
        confusion += [(name, a, b, int(rng.integers(0, 6))) for a in classes for b in classes]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            gap = score[a] - score[b]
            p = 0.001 if gap > 0.3 else 0.4
            comparison.append((a, b, "accuracy", gap, gap - 0.2, gap + 0.2, p, min(1.0, 2 * p)))
    for name, title, role in competitors:
        split = {"repeat": 0, "fold": 0, "n_train": n - n_test, "n_test": n_test, "seconds": 12.5}
        split |= {
            "peak_memory_mb": 1500.0,
            "device": "cpu",
            "findings": {"n_markers": 34, "genes": ["FGFR4"]},
        }
        runs.append(
            {
                "hypothesis": name,
                "title": title,
                "role": role,
                "framework": "numpy",
                "claim": CLAIM,
                "seed": 7,
            }
            | {"status": "not_applicable" if name in absent else "trained", "reason": "needs a covariate"}
            | {"config": {"penalty": 0.01}, "splits": [] if name in absent else [split]}
            | {"versions": {"numpy": "2.4.1"}, "hardware": {"n_cores": 2}, "code_digest": "sha256:ef"}
            | {"digests": {"blocks": {"expression": "sha256:ab"}}}
        )
    checks = [
        ("CHK001", "A patient is on both sides of a split", "", "pass", "No patient is on both sides."),
        ("CHK003", "A hypothesis is no better than guessing", "wide_deep", "pass", "Ahead by 0.3."),
        (
            "CHK003",
            "A hypothesis is no better than guessing",
            "sparse_markers",
            "finding",
            "Interval holds zero.",
        ),
        ("CHK004", "No better than the covariates", "", "not_applicable", "There are no covariates."),
    ]
    columns = {name: text.split() for name, text in COLUMNS.items()}
    rows = {"evaluation": evaluation, "comparison": comparison, "checks": checks}
    rows |= {"curves": curves, "confusion": confusion}
    return {
        "study": {
            "study": "srbct",
            "classes": list(classes),
            "primary_metric": "accuracy",
            "scheme": "official",
            "estimand": "Accuracy over the official test set.",
            "verdict": ["Wide and deep leads.", "It is better than every control."],
            "flow": [{"stage": "listed in the sheet", "n_samples": n, "n_patients": n}],
            "command": "snakemake --cores 2",
            "config": {"seed": 7},
            "provenance": {"python": "3.11"},
            "created": "2026-11-20T14:03:00+00:00",
        },
        "samples": samples,
        "splits": splits,
        "runs": runs,
        "tables": {name: pd.DataFrame(rows[name], columns=columns[name]) for name in rows},
    }


def further_tables() -> dict[str, pd.DataFrame]:
    """Tables that a study may have beyond those of ``make_study``, about its first hypotheses."""
    a, b, c, d = "wide_deep", "sparse_markers", "l2_logistic", "prior_only"
    rows = {
        "overlap": [
            (a, b, 2, 1, 3, 0.55, 20),
            (a, c, 0, 3, 4, -0.2, 20),
            (b, c, 1, 4, 3, 0.0, 20),
            (a, d, 3, 0, 9, np.nan, 20),
        ],
        "added_value": [(b, -0.01, -0.03, 0.02, 0.7, 0.7), (a, 0.12, 0.04, 0.21, 0.002, 0.004)],
        "strata_leaders": [
            ("all", 20, a, 0.95, b, 0.2, 0.1, 0.3, 0.01, True),
            ("site=Lund", 13, b, 0.9, a, 0.05, -0.1, 0.2, 0.6, False),
            ("site=Nagoya", 3, "", np.nan, "", np.nan, np.nan, np.nan, np.nan, False),
        ],
        "learning": [
            (name, share, metric, value + share / 10, value + share / 10 - 0.05, value + share / 10 + 0.05)
            for name, start in ((a, 0.8), (b, 0.7), (d, 0.3))
            for metric, value in (("log_loss", 1.6 - start), ("accuracy", start))
            for share in (0.25, 0.5, 1.0)
        ],
        "operating_points": [
            *(operating_point(name, "all", 0.95, 0.9 - i / 10) for i, name in enumerate((a, b, d))),
            operating_point(a, "site=Lund", 0.95, 0.7),
            operating_point(a, "all", 0.99, None),
            (c, "all", "", *[np.nan] * (len(OPERATING_COLUMNS) - 4), "needs 3 patients of every label"),
        ],
        "seeds": [
            (name, number, metric, value + number / 100, number / 50)
            for name in (a, b)
            for metric, value in (("accuracy", 0.8), ("log_loss", 0.5))
            for number in range(3)
        ],
        "attributions": [
            attribution(a, "", "f1", 0.5, np.nan, 1, gene="MYC", place=("chr8", 127_000_000, 128_000_000)),
            attribution(a, "", "f2", 0.25, np.nan, 2),
            attribution(a, "BL", "f1", 0.6, 0.9, 1, gene="MYC", place=("chr8", 127_000_000, 128_000_000)),
            attribution(a, "BL", "f2", 0.4, -0.8, 2),
            attribution(a, "NB", "f2", 0.7, 0.1, 1),
            attribution(b, "", "f2", 1.0, np.nan, 1),
        ],
        "attribution_agreement": [
            (a, b, "expression", 100, 0.62, 0.01, 9, 4.0, 0.004, 0.008),
            (a, d, "expression", 100, -0.1, 0.6, 3, 4.0, 0.8, 0.8),
        ],
        "failures": [(a, f"s{i}", "BL", "NB", 0.5 + i / 40) for i in range(14)],
    }
    return {name: pd.DataFrame(rows[name], columns=FURTHER[name].split()) for name in rows}


def attribution(name, label, feature, importance, direction, rank, *, gene="", place=("", -1, -1)):
    """A row of the attributions: a feature of 100, among the top ones in four of five splits."""
    return (name, label, "expression", feature, *place, gene, importance, 0.05, direction, 5, 0.8, 0.2, rank)


def operating_point(name, stratum, level, sensitivity):
    """A row of the operating points: a threshold of five splits, or none where sensitivity is None."""
    rates = [np.nan] * 10
    if sensitivity is not None:
        rates = [level, level - 0.03, level + 0.02, level - 0.05, level + 0.04]
        rates += [sensitivity, sensitivity - 0.1, sensitivity + 0.05, sensitivity - 0.2, sensitivity + 0.1]
    threshold = [0.5, 0.4, 0.6] if sensitivity is not None else [np.nan] * 3
    counts = [5, 80, 70, 80 / 81, level, 0.8]
    values = [0.3, 0.1, 0.6, 0.99, 0.98, 1.0, 40, 35]
    remark = "" if sensitivity is not None else "needs 99 negative training samples; a training part has 80"
    return (name, stratum, "specificity", level, *threshold, *counts, *rates, *values, remark)


VOID = {"meta", "input", "br", "hr", "img", "link", "option"}


class Page(HTMLParser):
    """Reads a page into a flat list of elements with their ancestors, and refuses unbalanced tags."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[dict] = []
        self.elements: list[dict] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({key for key, _ in attrs}) == len(attrs), f"attribute twice on {tag}: {attrs}"
        element = {"tag": tag, "text": "", "above": list(self.open), **{k: v or "" for k, v in attrs}}
        self.elements.append(element)
        if tag not in VOID - {"option"}:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", "above": list(self.open), **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]
