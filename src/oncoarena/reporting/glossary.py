"""The words of the report: names of metrics and roles, what each check means, how numbers are written."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from oncoarena.referee.metrics import METRICS, Metric

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


AXIS_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "mcc": (-1.0, 1.0),
    "log_loss": (0.0, None),
    "brier": (0.0, None),
    "brier_reliability": (0.0, None),
    "brier_resolution": (0.0, None),
    "brier_uncertainty": (0.0, None),
    "calibration_slope": (None, None),
    "calibration_intercept": (None, None),
}
"""Values that a metric cannot leave, where they are not 0 and 1."""


def metric(key: str) -> Metric:
    """Look a metric up; one that is not known gets its key as title and no better end."""
    known = METRICS.get(key)
    return known or Metric(key.replace("_", " ").capitalize(), None, "")


def axis_bounds(key: str) -> tuple[float | None, float | None]:
    """Return the values that a metric cannot leave (None: no bound)."""
    return AXIS_BOUNDS.get(key, (0.0, 1.0) if key in METRICS else (None, None))


def better_end(key: str) -> str:
    """Say which end of a metric is the good one, "" where neither is."""
    higher = metric(key).higher_is_better
    return "" if higher is None else "higher is better" if higher else "lower is better"


ROLES = {
    "claim": ("Claims", "a hypothesis on trial"),
    "baseline": ("Baselines", "what a reviewer would try first"),
    "external": ("External", "predictions of a model trained elsewhere"),
    "control": ("Controls", "must not do well; each frames what a score is worth"),
}


def role_rank(role: str) -> int:
    """Place a role in reading order: claims first, controls last."""
    order = ["claim", "baseline", "external", "control", "reference"]
    return order.index(role) if role in order else 2


SCHEMES = {
    "official": "Official split",
    "kfold": "Repeated k\N{NON-BREAKING HYPHEN}fold cross-validation",
    "leave_one_site_out": "Leave one site out",
    "table": "Splits given by the user",
}

OUTCOMES = {
    "finding": ("!", "Finding"),
    "pass": ("\N{CHECK MARK}", "Clear"),
    "not_applicable": (DASH, "Not applicable"),
}
"""Mark and word of each outcome of a check, the gravest first; titles of checks name the fault."""


@dataclass(frozen=True)
class Curve:
    """How a kind of curve is named, drawn and read."""

    title: str
    short: str
    x: str
    y: str
    guide: str
    diagonal: bool = False
    dots: bool = False
    each: str = "class"
    """What a panel stands for."""
    floor: float = 0.0
    """Where the vertical axis begins; what lies below is not drawn. From 0 the axis goes to 1, else to
    the highest value."""


CURVES = {
    "roc": Curve(
        "ROC curves",
        "ROC",
        "False-positive rate",
        "Sensitivity",
        "Each class against the rest: the share of its samples found (up) for the share of false alarms "
        "(right). The diagonal is chance. Move over a panel to read every line at that point.",
        diagonal=True,
    ),
    "precision_recall": Curve(
        "Precision and recall",
        "Precision and recall",
        "Recall",
        "Precision",
        "The share of called samples that are true (up) for the share of true samples found (right). "
        "Unlike the ROC curve it depends on how common the class is.",
    ),
    "calibration": Curve(
        "Calibration",
        "Calibration",
        "Predicted probability",
        "Observed frequency",
        "Of the samples given a probability near x, the share y was truly of the class. Points on the "
        "diagonal are well calibrated; larger points hold more samples.",
        diagonal=True,
        dots=True,
    ),
    "decision": Curve(
        "Decision curves",
        "Decision curves",
        "Threshold probability",
        "Net benefit",
        "What acting on the model is worth at each threshold, in true positives a sample; a line is useful "
        "where it lies above both zero and treating all.",
        floor=-0.05,
    ),
    "risk_coverage": Curve(
        "Referring the least certain",
        "Referral",
        "Share of samples kept",
        "Accuracy of those kept",
        "The accuracy among the samples that a model is surest of, if the rest are referred on.",
    ),
}
"""The kinds of curve in reading order."""


ATTRIBUTION_WORDS = {
    "Importance": "The share of a hypothesis's contributions to the class scores that a feature makes, for or against, "
    "in the mean over splits. All features together make 100 %.",
    "In the top 20": "In how many splits the feature is among the 20 largest. A feature that is there in most of the "
    "splits does not hang on who was in the training part.",
    "By chance": "In how many splits a feature would be there if all were ranked at random.",
    "Direction": "Whether high values of the feature speak for the class or against it; none is given where it is now "
    "one, now the other.",
    "Place": "Of a bin its borders; of a gene or a site its first base pair, counted from 0.",
    "Overlap": "How many features are in the top 20 of both hypotheses.",
    "Spearman": "The rank correlation of two hypotheses' importances over all features of a block: 1 where they rank "
    "all alike, 0 where one ranking says nothing of the other.",
}
"""What the words about attributions mean."""


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals(value: float, digits: int = 3) -> str:
    """Write a number with fixed decimals; a value that is not finite becomes a dash."""
    if pd.isna(value) or not math.isfinite(value):
        return DASH
    text = f"{float(value):,.{digits}f}"
    return text.replace("-", "" if not float(text.replace(",", "")) else MINUS)


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    text = decimals(value, digits)
    return text if text == DASH or text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Write an interval as "0.831 to 1.000"; an empty string where there is none."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"{decimals(low, digits)} to {decimals(high, digits)}"


def p_value(value: float) -> str:
    """Write a p-value with two decimals, three below 0.1, "<0.001" below that."""
    if pd.isna(value):
        return DASH
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def percent(share: float) -> str:
    """Write a share in per cent with about two figures: "34 %", "2.1 %", "0.04 %"; a dash where there is none."""
    if pd.isna(share):
        return DASH
    scaled = 100.0 * share
    if 0 < scaled < 0.001:
        return "<0.001 %"
    digits = 0 if scaled >= 10 or not scaled else 1 if scaled >= 1 else 2 if scaled >= 0.1 else 3
    return f"{scaled:.{digits}f} %"


def count(value: float) -> str:
    """Write a count: whole where it is whole, else (a mean over repeats) with one decimal."""
    if pd.isna(value):
        return DASH
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def compact(value: float) -> str:
    """Write any number in few signs: "2,308", "0.0042", "31.2M"; a dash where there is none."""
    if pd.isna(value) or not math.isfinite(value):
        return DASH
    unit = ""
    for least, factor, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            value, unit = value / factor, letter
            break
    if not unit and float(value).is_integer():
        return f"{value:,.0f}".replace("-", MINUS)
    text = f"{value:,.1f}".removesuffix(".0") if abs(value) >= 100 else f"{value:.3g}"
    return f"{text}{unit}".replace("-", MINUS)


_MEASURES = {
    "gc": "GC",
    "ti_tv": "Ti/Tv",
    "tmb": "TMB",
    "dna": "DNA",
    "rna": "RNA",
    "cpg": "CpG",
    "mapq": "MAPQ",
    "snv": "SNVs",
    "snvs": "SNVs",
    "indel": "indels",
    "bp": "(bp)",
    "mb": "(MB)",
    "x": "X",
    "y": "Y",
}


def measure_title(key: str) -> str:
    """Write the name of a measure of quality in words: "insert_mode_bp" as "Insert mode (bp)"."""
    if key in _MEASURES:
        return _MEASURES[key]
    words = [_MEASURES.get(word, word) for word in key.removeprefix("n_").split("_")]
    text = " ".join([*words, "(n)"] if key.startswith("n_") else words).replace("ti tv", "Ti/Tv")
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it: "0.42 s", "38 s", "2 min 05 s", "3 h 12 min"."""
    if pd.isna(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def memory(megabytes: float) -> str:
    """Write an amount of memory in MB or GB."""
    if pd.isna(megabytes):
        return DASH
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:,.1f} GB"


def typeset(text: str) -> str:
    """Write the minus signs of a sentence's numbers as such, not as hyphens; words keep theirs."""
    return re.sub(r"(?<![\w.)\N{MINUS SIGN}-])-(?=\.?\d)", MINUS, text)


def moment(text: str) -> str:
    """Write an ISO 8601 time as "2026-11-20 14:03 UTC"; other text stays as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    if len(text) <= 10:
        return f"{when:%Y-%m-%d}"
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if when.tzinfo else f"{when:%Y-%m-%d %H:%M}"


def plural(n: int, noun: str) -> str:
    """Write "1 sample" or "20 samples"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
