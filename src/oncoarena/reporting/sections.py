"""Collect what each section of the report shows: pictures, the tables behind them, and lists."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from oncoarena.referee.checks import CHECKS, describe
from oncoarena.referee.comparison import METHOD
from oncoarena.reporting import cards, datatable, figures, panels
from oncoarena.reporting.datatable import DataTable
from oncoarena.reporting.figures import ALPHA, NARROW, WIDE
from oncoarena.reporting.glossary import CURVES, OUTCOMES, count, metric, plural, typeset
from oncoarena.reporting.series import Series

_SMALL = 380
"""Width (pixels) of a picture that shares its row with another."""

_METRIC_FIGURES_MOST = 6
_SEE_TABLE = "The numbers are in the table of this section."


def find_leaders(evaluation: pd.DataFrame, series: Mapping[str, Series], metric_key: str) -> list[Any]:
    """Find the rows with the best estimate among all but the controls; empty where there is none."""
    rows = overall(evaluation, metric_key)
    rows = rows[rows["estimate"].notna() & ~rows["hypothesis"].isin(_controls(series))]
    if rows.empty:
        return []
    best = rows["estimate"].min() if metric(metric_key).higher_is_better is False else rows["estimate"].max()
    order = list(series)
    return sorted(rows[rows["estimate"] == best].itertuples(), key=lambda row: order.index(row.hypothesis))


def _controls(series: Mapping[str, Series]) -> list[str]:
    return [name for name, look in series.items() if look.role == "control"]


def overall(evaluation: pd.DataFrame, metric_key: str) -> pd.DataFrame:
    """Pick one metric's rows over all samples."""
    return evaluation[(evaluation["metric"] == metric_key) & (evaluation["stratum"] == "all")]


def by_series(runs: Sequence[Mapping[str, Any]], series: Mapping[str, Series]) -> list[Mapping[str, Any]]:
    """Put the runs into reading order."""
    order = list(series)
    return sorted(runs, key=lambda run: order.index(run["hypothesis"]))


def _both_widths(draw: Callable[..., str], uid: str, **given: Any) -> dict[str, Markup]:
    """Draw one picture for wide screens and paper, and one for narrow screens."""
    return {
        "wide": Markup(draw(**given, uid=f"{uid}-w", width=WIDE)),
        "narrow": Markup(draw(**given, uid=f"{uid}-n", width=NARROW)),
    }


def leaderboard(
    evaluation: pd.DataFrame, series: Mapping[str, Series], primary: str, runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw the primary metric large, the next ones small, and list them all in one table."""
    rows = evaluation[evaluation["stratum"] == "all"]
    section: dict[str, Any] = {
        "main": None,
        "others": [],
        "table": datatable.leaderboard_table(rows, series, primary) if len(rows) else None,
        "further": datatable.further_metrics_table(rows, series, primary) if len(rows) else None,
        "absent": [
            (series[run["hypothesis"]], run.get("reason") or "no reason was given")
            for run in runs
            if run.get("status") == "not_applicable"
        ],
        "metric": metric(primary),
        "primary": primary,
        "titles": [look for look in series.values() if look.title not in ("", look.label)],
        "with_card": {run["hypothesis"] for run in runs},
    }
    for i, key in enumerate(datatable.metric_order(rows, primary)[: _METRIC_FIGURES_MOST + 1]):
        of_metric = datatable.sort_rows(rows[rows["metric"] == key], series, key)
        given = {
            "table": of_metric,
            "series": series,
            "metric_key": key,
            "title": f"{metric(key).title} of each hypothesis",
            "description": f"Dots are estimates, whiskers 95 % intervals; {len(of_metric)} hypotheses "
            f"by role. {_SEE_TABLE}",
        }
        if key == primary:
            section["main"] = _both_widths(figures.interval_plot, f"board-{i}", **given)
        else:
            picture = figures.interval_plot(**given, uid=f"board-{i}", width=_SMALL)
            section["others"].append({"key": key, "title": metric(key).title, "picture": Markup(picture)})
    return section


def differences(
    comparison: pd.DataFrame, evaluation: pd.DataFrame, series: Mapping[str, Series], primary: str
) -> dict[str, Any]:
    """Draw the leader against the rest first, then each claim against the rest, all on one scale."""
    rows = comparison[comparison["metric"] == primary]
    leaders = [row.hypothesis for row in find_leaders(evaluation, series, primary)[:1]]
    claims = [name for name, look in series.items() if look.role in ("claim", "external")]
    involved = {*rows["hypothesis_a"], *rows["hypothesis_b"]}
    order = list(series)
    drawn = []
    for name in dict.fromkeys([*leaders, *claims]):
        if name not in involved:
            continue
        pairs = figures.differences_with(rows, name)
        pairs = pairs.sort_values("hypothesis_b", key=lambda column: column.map(order.index), kind="stable")
        pictures = _both_widths(
            figures.forest_plot,
            f"diff-{series[name].key}",
            differences=pairs,
            series=series,
            metric_key=primary,
            title=f"{series[name].label} against each other hypothesis",
            description=f"Paired differences in {metric(primary).title} with 95 % intervals; "
            f"filled markers are separable. {_SEE_TABLE}",
        )
        drawn.append({"look": series[name], "leads": name in leaders, **pictures})
    table = datatable.comparison_table(rows, series) if len(rows) else None
    return {
        "drawn": drawn,
        "table": table,
        "metric": metric(primary),
        "alpha": f"{ALPHA:g}",
        "method": METHOD,
    }


def curve_sections(
    points: pd.DataFrame, series: Mapping[str, Series], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Draw each kind of curve that the table holds, one panel a label."""
    found = []
    for kind, curve in CURVES.items():
        chosen = points[points["curve"] == kind]
        if chosen.empty:
            continue
        looks = [look for look in series.values() if look.hypothesis in set(chosen["hypothesis"])]
        labels = sorted(chosen["label"].unique(), key=lambda label: label in classes)
        width = _SMALL if len(labels) == 1 else panels.PANEL
        found.append(
            {
                "id": kind.replace("_", "-"),
                "curve": curve,
                "panels": [
                    _panel(chosen[chosen["label"] == label], series, kind, str(label), i, classes, width)
                    for i, label in enumerate(labels)
                ],
                "boxes": [(look, look.role != "control" or len(looks) <= 3) for look in looks],
                "table": datatable.curve_table(chosen, series, kind),
            }
        )
    return found


def _panel(
    points: pd.DataFrame,
    series: Mapping[str, Series],
    kind: str,
    label: str,
    i: int,
    classes: Sequence[str],
    width: int,
) -> dict[str, Any]:
    known = label in classes
    title = label if known else {"macro": "Mean over classes", "top": "The class called"}.get(label, label)
    picture = panels.curve_panel(
        points,
        series,
        curve=kind,
        title=f"{CURVES[kind].title}: {title}",
        description=f"One line a hypothesis. {_SEE_TABLE}",
        uid=f"{kind.replace('_', '-')}-{i}",
        width=width,
    )
    key = f"c{classes.index(label)}" if known else "m" + "".join(filter(str.isalnum, label))
    return {"label": title, "key": key, "picture": Markup(picture)}


def confusion(table: pd.DataFrame, series: Mapping[str, Series], classes: Sequence[str]) -> dict[str, Any]:
    """Draw one matrix a hypothesis."""
    names = panels.classes_in(table, classes)
    drawn = []
    for look in series.values():
        rows = table[table["hypothesis"] == look.hypothesis]
        if rows.empty:
            continue
        picture = panels.confusion_matrix(
            rows,
            classes,
            title=f"Confusion matrix of {look.label}",
            description=f"True classes down, called classes across. {_SEE_TABLE}",
            uid=f"confusion-{look.key}",
        )
        counts = datatable.confusion_table(rows, names, look.label)
        drawn.append({"look": look, "picture": Markup(picture), "table": counts})
    size = "small" if len(names) <= 5 else "medium" if len(names) <= 9 else "large"
    return {"drawn": drawn, "size": size}


def strata(
    evaluation: pd.DataFrame,
    series: Mapping[str, Series],
    primary: str,
    leaders: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Draw the primary metric in each stratum, all on one scale, without the controls.

    Parameters: ``leaders``, where given, names the best two of each stratum and compares them.
    """
    favoured = leaders[leaders["stratum"] != "all"] if leaders is not None else None
    rows = evaluation[(evaluation["stratum"] != "all") & (evaluation["metric"] == primary)]
    if rows.empty:
        return {"drawn": [], "table": None, "metric": metric(primary), "leaders": None}
    rows = rows[~rows["hypothesis"].isin(_controls(series))]
    ends = figures.common_domain(rows, primary)
    drawn = []
    for i, (stratum, part) in enumerate(rows.groupby("stratum", sort=False)):
        first = part.iloc[0]
        picture = figures.interval_plot(
            datatable.sort_rows(part, series, primary),
            series,
            metric_key=primary,
            title=f"{metric(primary).title} in {stratum}",
            description=f"Dots are estimates, whiskers 95 % intervals. {_SEE_TABLE}",
            uid=f"strata-{i}",
            width=_SMALL,
            domain=ends,
        )
        n = f"{plural(int(first.n_samples), 'sample')}, {plural(int(first.n_patients), 'patient')}"
        drawn.append({"stratum": stratum, "n": n, "picture": Markup(picture)})
    table = datatable.interval_table(rows, series, f"{metric(primary).title} by stratum")
    return {
        "drawn": drawn,
        "table": table,
        "metric": metric(primary),
        "leaders": datatable.leader_table(favoured, series)
        if favoured is not None and len(favoured)
        else None,
    }


def checks(table: pd.DataFrame, series: Mapping[str, Series]) -> list[dict[str, Any]]:
    """Group the outcomes by check; checks with findings come first."""
    meanings = {code: text for code, _, text in map(describe, CHECKS)}
    severity = list(OUTCOMES)
    groups = []
    for code, rows in table.groupby("code", sort=True):
        entries = [
            {
                "who": series[row.hypothesis].label if row.hypothesis in series else "",
                "outcome": row.outcome,
                "mark": OUTCOMES[row.outcome][0],
                "word": OUTCOMES[row.outcome][1],
                "detail": typeset(str(row.detail)),
            }
            for row in rows.itertuples()
        ]
        counted = rows["outcome"].value_counts()
        worst = min(counted.index, key=severity.index)
        others = [entry for entry in entries if entry["outcome"] != "finding"]
        tally = [f"{counted[key]} {OUTCOMES[key][1].lower()}" for key in severity[1:] if key in counted.index]
        groups.append(
            {
                "code": code,
                "title": rows["title"].iloc[0],
                "meaning": meanings.get(code, ""),
                "outcome": worst,
                "mark": OUTCOMES[worst][0],
                "word": OUTCOMES[worst][1],
                "tally": ", ".join(tally),
                "findings": [entry for entry in entries if entry["outcome"] == "finding"],
                "others": others,
            }
        )
    return sorted(groups, key=lambda group: (severity.index(group["outcome"]), group["code"]))


def data(classes: Sequence[str], samples: pd.DataFrame, splits: pd.DataFrame) -> dict[str, Any]:
    """Count the samples by class, by each column of few values, and by split."""
    sizes = samples["label"].astype(str).value_counts()
    rows = [(name, float(sizes.get(name, 0)), plural(int(sizes.get(name, 0)), "sample")) for name in classes]
    picture = _both_widths(
        figures.bar_plot,
        "classes",
        rows=rows,
        title="Samples by class",
        description=f"One bar a class. {_SEE_TABLE}",
    )
    few = [
        column
        for column in samples.columns
        if column not in ("sample_id", "patient_id", "label", "split")
        and 2 <= samples[column].nunique() <= 12
    ]
    by_column = [
        DataTable(
            f"Samples by {column}",
            [column, "Samples", "Patients"],
            [
                [str(value), count(len(part)), count(part["patient_id"].nunique())]
                for value, part in samples.groupby(column, sort=True)
            ],
        )
        for column in few
    ]
    return {
        "picture": picture,
        "table": datatable.class_table(samples, splits, classes),
        "splits": datatable.split_table(splits),
        "by_column": by_column,
    }


def cost(runs: Sequence[Mapping[str, Any]], series: Mapping[str, Series]) -> dict[str, Any]:
    """Draw and list what each trained hypothesis took."""
    trained = [
        run for run in by_series(runs, series) if run.get("status") != "not_applicable" and run.get("splits")
    ]
    if not trained:
        return {"picture": None, "table": None}
    table = cards.cost_table(trained, series)
    looks = [series[run["hypothesis"]] for run in trained]
    seconds = [cards.cost(run)["seconds"] for run in trained]
    picture = _both_widths(
        figures.bar_plot,
        "cost",
        rows=[(look.label, s, row[4]) for look, s, row in zip(looks, seconds, table.rows, strict=True)],
        title="Time in all, by hypothesis",
        description=f"One bar a hypothesis: training and prediction over all splits. {_SEE_TABLE}",
        tones=[look.tone for look in looks],
    )
    return {"picture": picture, "table": table}


def provenance(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """List versions, machines, digests and the config, and the command that makes it all again."""
    code = [(run["hypothesis"], run["code_digest"]) for run in runs if run.get("code_digest")]
    groups = {
        "Study": cards.flatten(study.get("provenance") or {}),
        "Versions": cards.gather(runs, "versions"),
        "Hardware": cards.gather(runs, "hardware"),
        "Digests of what was read": cards.gather(runs, "digests"),
        "Digests of code": code,
    }
    return {
        "command": study.get("command") or "",
        "config": json.dumps(study.get("config") or {}, indent=2, default=str, ensure_ascii=False),
        "groups": [(title, lines) for title, lines in groups.items() if lines],
    }
