"""What hypotheses looked at: the top features of each on its card, and all of them side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.referee.attributions import AGREEMENT_METHOD, POOLING_METHOD, TOP
from oncoarena.reporting.agreement import Cell, pair_triangle
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import ALPHA, NARROW, WIDE, Row, draw_intervals
from oncoarena.reporting.genome_track import (
    chromosomes_of,
    describe,
    genome_track,
    named,
    on_chromosomes,
    place,
    track_table,
)
from oncoarena.reporting.glossary import (
    ATTRIBUTION_WORDS,
    DASH,
    compact,
    count,
    decimals,
    p_value,
    percent,
    plural,
)
from oncoarena.reporting.series import Series

LEAN = 0.3
"""Direction, of -1 to 1, from which high values of a feature are said to speak for or against a class."""

_DRAWN, _NAMED = 10, 5
"""How many features a card draws, and how many it names of each class."""

CAUTION = (
    "Which features move the scores of each hypothesis, in the mean over all splits. This is what the models used, "
    "which need not be what causes cancer: a feature may stand in for another that varies with it, for how a sample "
    "was taken, or for the site."
)

_SEE_TABLE = "The numbers are in the table of this section."


def looked_at(run: Mapping[str, Any], look: Series, table: pd.DataFrame | None) -> dict[str, Any]:
    """Collect what a card says of the features that its hypothesis used.

    Parameters: ``run``, whose key attribution says how they were computed (method, exact); ``table`` with the columns
    of ``attributions.POOLED_COLUMNS``, None where the study has no such table.
    Returns {} without a table or training; only why there is nothing, where there is nothing.
    """
    if table is None or run.get("status") == "not_applicable":
        return {}
    mine = table[table["hypothesis"] == run["hypothesis"]]
    if mine.empty:
        return {"why": _why_nothing(run)}
    overall, classes = mine[(mine["label"] == "") & (mine["importance"] > 0)], mine[mine["label"] != ""]
    if overall.empty:
        return {"why": "No feature moved its scores."}
    # What is told of classes is their direction.
    classes = classes[classes["direction"].notna()]
    labels = classes["label"].unique()
    by_block = (
        overall.groupby("block", sort=False)["importance"].sum().sort_values(ascending=False, kind="stable")
    )
    # With two classes the second alone is explained, and its direction stands beside each feature.
    only = classes if len(labels) == 1 else classes.iloc[:0]
    picture = {
        name: Markup(_draw_top(overall.head(_DRAWN), look, uid=f"looked-{look.key}-{name}", width=width))
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    return {
        "why": "",
        "told": [_tell_top(overall), _tell_method(run)],
        "picture": picture,
        "table": feature_table(overall.head(TOP), only, look.label),
        "blocks": [(block, percent(share)) for block, share in by_block.items()] if len(by_block) > 1 else [],
        "classes": class_table(classes, look.label) if len(labels) > 1 else None,
    }


def _why_nothing(run: Mapping[str, Any]) -> str:
    if run.get("role") == "external":
        return "It was trained elsewhere: what it looked at is not known."
    if "attribution" not in run:
        return "It was trained before attributions were kept; train it again to have them."
    return "It does not say: its method offers no attributions."


def _tell_top(overall: pd.DataFrame) -> str:
    """Say how much the top features hold, and how many of them are there in most of the splits."""
    top, n_folds = overall.head(TOP), int(overall["n_folds"].iloc[0])
    chance = float(overall["expected_top_share"].iloc[0])
    n_features = f" of {round(TOP / chance):,}" if chance < 1 else ""
    told = (
        f"Its top {len(top)}{n_features} features hold {percent(top['importance'].sum())} of its importance"
    )
    if n_folds == 1:
        return f"{told}. With one split there is no telling how stable they are."
    steady = int((top["top_share"] >= 0.8).sum())
    return (
        f"{told}; {steady or 'none'} of them {'is' if steady < 2 else 'are'} in the top {TOP} of at least four splits "
        f"in five, where chance would put a feature in {percent(chance)} of the splits."
    )


def _tell_method(run: Mapping[str, Any]) -> str:
    about = run.get("attribution")
    if not about:
        return ""
    sums = "sum exactly to" if about.get("exact") else "need not sum to"
    return f"Method: {about.get('method')}; the contributions of a sample {sums} its score."


def feature_table(rows: pd.DataFrame, directions: pd.DataFrame, whose: str) -> DataTable:
    """List features with gene and place where known, importance and how often they are among the top ones.

    Parameters: ``directions``, the rows of the one class that is explained, where there is one only.
    """
    of_class = directions.set_index(["block", "feature"])["direction"].to_dict()
    label = str(directions["label"].iloc[0]) if len(directions) else ""
    n_folds, chance = int(rows["n_folds"].iloc[0]), float(rows["expected_top_share"].iloc[0])
    with_gene = bool(((rows["gene"] != "") & (rows["gene"] != rows["feature"])).any())
    with_block = len(rows["block"].unique()) > 1
    # The id of a bin is its place, which need not be said twice.
    places = [place(row) if row.start >= 0 else DASH for row in rows.itertuples()]
    names = [str(row.feature) if row.gene else named(row) for row in rows.itertuples()]
    with_place = any(known not in (DASH, name) for known, name in zip(places, names, strict=True))
    body = []
    for row, name, known in zip(rows.itertuples(), names, places, strict=True):
        cells = [name]
        cells += [row.gene or DASH] if with_gene else []
        cells += [known] if with_place else []
        cells += [row.block] if with_block else []
        cells += [_lean(of_class.get((row.block, row.feature), math.nan), label)] if label else []
        body.append([*cells, percent(row.importance), percent(row.sd), _seen(row)])
    shown = [("Gene", with_gene), ("Place", with_place), ("Block", with_block), ("Direction", bool(label))]
    words = ["Feature", *(heading for heading, wanted in shown if wanted)]
    often = f"In the top {TOP} of {plural(n_folds, 'split')} (chance {_chance(chance * n_folds)})"
    headings = [*words, "Importance", "Standard deviation", often]
    return DataTable(f"Top features: {whose}", headings, body, n_text=len(words))


def _seen(row: Any) -> str:
    return f"{count(round(row.top_share * row.n_folds, 1))} of {row.n_folds}"


def _lean(direction: float, label: str) -> str:
    if not abs(direction) >= LEAN:
        return DASH
    return f"high: {label}" if direction > 0 else f"low: {label}"


def class_table(rows: pd.DataFrame, whose: str) -> DataTable:
    """Name, of each class, the most important features whose high values speak for it and against it."""
    body = []
    for label, part in rows.groupby("label", sort=True):
        names = pd.Series([named(row) for row in part.itertuples()], index=part.index)
        sides = [names[part["direction"] >= LEAN], names[part["direction"] <= -LEAN]]
        body.append([str(label), *(", ".join(side.drop_duplicates().head(_NAMED)) or DASH for side in sides)])
    headings = ["Class", "High values speak for it", "High values speak against it"]
    return DataTable(f"Features of each class: {whose}", headings, body, n_text=3)


def _draw_top(rows: pd.DataFrame, look: Series, *, uid: str, width: int) -> str:
    """Draw the importance of some features, with its standard deviation over splits."""
    drawn = []
    for row in rows.itertuples():
        spread = row.sd if math.isfinite(row.sd) else 0.0
        drawn.append(
            Row(
                label=named(row),
                group="top features",
                low=100 * max(row.importance - spread, 0.0),
                middle=100 * row.importance,
                high=100 * (row.importance + spread),
                value=percent(row.importance),
                beside=_seen(row),
                beside_short=_seen(row),
                reading=f"{describe(row)}\n{percent(row.importance)} of its importance"
                f"\nin the top {TOP} of {_seen(row)} splits",
                series=look,
                marker_class=look.marker_class,
            )
        )
    return draw_intervals(
        drawn,
        axis_label="Per cent of its importance, mean and standard deviation",
        bounds=(0.0, None),
        domain=None,
        zero_line=True,
        title=f"What {look.label} looked at most",
        description=f"Dots are the mean importance of its top features over all splits, whiskers one standard "
        f"deviation. {_SEE_TABLE}",
        uid=uid,
        width=width,
    )


def attribution_section(
    tables: Mapping[str, pd.DataFrame],
    series: Mapping[str, Series],
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect all hypotheses side by side: along the genome, block by block, and how far pairs of them agree.

    Parameters: ``tables``, of which attributions and attribution_agreement are read; ``config`` of the study, for the
    reference genomes that its assays name. Returns {} where no hypothesis has attributions.
    """
    table = tables.get("attributions")
    if table is None or table.empty:
        return {}
    overall = table[table["label"] == ""]
    explained = set(overall["hypothesis"].unique())
    looks = [look for name, look in series.items() if name in explained]
    assays = (config or {}).get("assays")
    named = [keys.get("genome") for keys in assays.values() if isinstance(keys, Mapping)] if assays else []
    genomes = [str(name) for name in named if name]
    blocks = (
        overall.groupby("block", sort=False)["importance"].sum().sort_values(ascending=False, kind="stable")
    )
    tracks = [
        _track(overall[overall["block"] == block], str(block), looks, genomes, i)
        for i, block in enumerate(blocks.index)
    ]
    pairs = tables.get("attribution_agreement")
    pairs = pairs if pairs is not None else pd.DataFrame(columns=["block"])
    agreements = [
        _agreement(pairs[pairs["block"] == block], str(block), series, i)
        for i, block in enumerate(blocks.index)
        if (pairs["block"] == block).any()
    ]
    return {
        "tracks": [track for track in tracks if track],
        "agreements": agreements,
        "caution": CAUTION,
        "words": list(ATTRIBUTION_WORDS.items()),
        "pooling": POOLING_METHOD,
        "method": AGREEMENT_METHOD if agreements else "",
    }


def _track(
    rows: pd.DataFrame, block: str, looks: Sequence[Series], genomes: Sequence[str], number: int
) -> dict[str, Any]:
    """Draw one block along the genome; {} where none of its features has a place there."""
    placed = on_chromosomes(rows)
    users = set(rows["hypothesis"].unique())
    mine = [look for look in looks if look.hypothesis in users]
    if placed.empty:
        return {}
    chromosomes = chromosomes_of(placed, genomes)
    drawn = {
        name: Markup(
            genome_track(
                placed,
                mine,
                chromosomes,
                top=TOP,
                title=f"Importance of {block} along the genome",
                description="One track a hypothesis, chromosomes side by side; ticks below a track are its top "
                f"features. {_SEE_TABLE}",
                uid=f"genome-{number}-{name}",
                width=width,
            )
        )
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    lost = rows["feature"].nunique() - placed["feature"].nunique()
    return {
        "block": block,
        "picture": drawn,
        "table": track_table(placed, mine, chromosomes, f"Importance by chromosome: {block}"),
        "lost": f"{plural(lost, 'feature')} of {block} without a place on a chromosome "
        f"{'is' if lost == 1 else 'are'} left out."
        if lost
        else "",
    }


def _agreement(pairs: pd.DataFrame, block: str, series: Mapping[str, Series], number: int) -> dict[str, Any]:
    """Draw how many top features pairs of hypotheses share in one block, and say it in words."""
    found = {*pairs["first"], *pairs["second"]}
    looks = [look for name, look in series.items() if name in found and look.role != "control"]
    cells = {frozenset((row.first, row.second)): _cell(row) for row in pairs.itertuples()}
    picture = (
        Markup(
            pair_triangle(
                cells,
                looks,
                title=f"Top features that two hypotheses share in {block}",
                description=f"Features in the top {TOP} of both, a cell a pair. {_SEE_TABLE}",
                uid=f"shared-{number}",
            )
        )
        if len(looks) > 1
        else None
    )
    return {
        "block": block,
        "told": _tell_agreement(pairs, block, series),
        "picture": picture,
        "table": agreement_table(pairs, series, block),
    }


def _cell(row: Any) -> Cell:
    rho = row.spearman if math.isfinite(row.spearman) else 0.0
    reading = (
        f"{row.first} and {row.second}\n{row.overlap} of their top {TOP} features in common "
        f"(by chance {_chance(row.expected_overlap)})\nSpearman {decimals(row.spearman, 2)}"
    )
    kind = "right" if rho > 0 else "wrong" if rho < 0 else "level"
    return Cell(str(row.overlap), min(abs(rho), 1.0), kind, reading)


def _tell_agreement(pairs: pd.DataFrame, block: str, series: Mapping[str, Series]) -> str:
    """Say in words how far claims agree, and how far a control on shuffled labels agrees with them."""

    def has_role(side: str, role: str) -> pd.Series:
        return pairs[side].map(lambda name: name in series and series[name].role == role)

    claims = pairs[has_role("first", "claim") & has_role("second", "claim")]
    if claims.empty:
        return ""
    low, high = claims["overlap"].min(), claims["overlap"].max()
    chance = _chance(claims["expected_overlap"].mean())
    best = claims.loc[claims["overlap"].idxmax()]
    n_more = int((claims["p_holm"] < ALPHA).sum())
    who = f"{best['first']} and {best['second']}"
    if len(claims) == 1:
        more = "more than" if n_more else "not shown to be more than"
        told = f"Of their top {TOP} features in {block}, {who} share {high}, {more} the {chance} of chance."
    else:
        told = (
            f"Of their top {TOP} features in {block}, two claims share "
            f"{f'{low} to {high}' if low < high else high} ({chance} by chance); {n_more} of {len(claims)} pairs share "
            f"more than chance would."
        )
        told += f" Most alike are {who}." if low < high else ""
    mixed = pairs[
        (has_role("first", "control") & has_role("second", "claim"))
        | (has_role("first", "claim") & has_role("second", "control"))
    ]
    if len(mixed) and not mixed["overlap"].any():
        return f"{told} No control shares any with a claim."
    for row in mixed[mixed["overlap"] > 0].nlargest(1, "overlap").itertuples():
        control, claim = sorted((row.first, row.second), key=lambda name: series[name].role != "control")
        told += f" The control {control} shares {row.overlap} with {claim}."
    return told


def _chance(value: float) -> str:
    return compact(float(f"{value:.2g}"))


def agreement_table(pairs: pd.DataFrame, series: Mapping[str, Series], block: str) -> DataTable:
    """List every pair: shared top features against chance, and the rank correlation."""
    body = [
        [
            series[row.first].label,
            series[row.second].label,
            str(row.overlap),
            _chance(row.expected_overlap),
            p_value(row.p_value),
            p_value(row.p_holm),
            decimals(row.spearman, 2),
            p_value(row.spearman_p),
        ]
        for row in pairs.itertuples()
    ]
    headings = [
        "First",
        "Second",
        f"Shared of top {TOP}",
        "By chance",
        "p",
        "p (Holm)",
        "Spearman",
        "p (rotations)",
    ]
    return DataTable(f"Do two hypotheses look at the same features? {block}", headings, body, n_text=2)
