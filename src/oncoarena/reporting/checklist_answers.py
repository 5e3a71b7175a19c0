"""What a run can say to the items of TRIPOD+AI; where it cannot know it says nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from oncoarena.reporting.glossary import decimals, interval, metric, moment, plural, typeset
from oncoarena.reporting.verdict import question, scheme

Answer = tuple[str, str]
"""("filled" or "begun", text)."""


def _join(sentences: Sequence[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _list(names: Sequence[Any], most: int = 12) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest


@dataclass(frozen=True)
class Answers:
    """The study as the report sees it, asked item by item; fields as the parameters of ``report.compose``."""

    study: Mapping[str, Any]
    samples: pd.DataFrame
    splits: pd.DataFrame
    runs: Sequence[Mapping[str, Any]]
    tables: Mapping[str, pd.DataFrame]

    def all(self) -> dict[str, Answer]:
        """Answer every item that the run can speak to; an item without an answer is the authors'."""
        given = {
            **self._objectives_and_data(),
            **self._analysis(),
            **self._open_science(),
            **self._results(),
            **self._discussion(),
        }
        return {item: (status, typeset(text)) for item, (status, text) in given.items() if text}

    @property
    def _config(self) -> Mapping[str, Any]:
        return self.study.get("config") or {}

    @property
    def _primary(self) -> str:
        return metric(str(self.study["primary_metric"])).title

    @property
    def _trained(self) -> list[Mapping[str, Any]]:
        return [run for run in self.runs if run.get("status") != "not_applicable"]

    def _check(self, code: str) -> str:
        """Say what a check found of the study as a whole; "" where it was not run."""
        checks = self.tables["checks"]
        rows = checks[checks["code"] == code]
        found = rows[rows["outcome"] == "finding"]
        if len(found):
            return f"{code} is a finding: {found['detail'].iloc[0]}"
        passed = rows[rows["outcome"] == "pass"]
        return f"{code} is clear: {passed['detail'].iloc[0]}" if len(passed) else ""

    def _sizes(self, samples: pd.DataFrame) -> str:
        """Count samples, patients and classes."""
        sizes = samples["label"].astype(str).value_counts().sort_index()
        by_class = _list([f"{name} {n}" for name, n in sizes.items()], 20)
        n_patients = plural(samples["patient_id"].nunique(), "patient")
        return f"{plural(len(samples), 'sample')} of {n_patients} ({by_class})"

    @cached_property
    def _played(self) -> pd.DataFrame:
        """Which roles each sample ever plays: one row a sample and role."""
        return self.splits[["role", "sample_id"]].drop_duplicates()

    def _in_role(self, role: str) -> pd.DataFrame:
        ids = self._played.loc[self._played["role"] == role, "sample_id"]
        return self.samples[self.samples["sample_id"].isin(ids)]

    @cached_property
    def _in_training(self) -> pd.DataFrame:
        return self._in_role("train")

    @cached_property
    def _in_test(self) -> pd.DataFrame:
        return self._in_role("test")

    def _split_sizes(self) -> str:
        """Say how many samples train and test in a split."""
        counted = pd.crosstab([self.splits["repeat"], self.splits["fold"]], self.splits["role"])
        parts = []
        for role, word in (
            ("train", "trained on"),
            ("validation", "kept for stopping"),
            ("test", "tested on"),
        ):
            if role in counted.columns:
                low, high = counted[role].min(), counted[role].max()
                parts.append(f"{word} {low:,}" if low == high else f"{word} {low:,} to {high:,}")
        return f"{plural(len(counted), 'split')}, each {', '.join(parts)} samples."

    def _objectives_and_data(self) -> dict[str, Answer]:
        config, samples = self._config, self.samples
        primary = str(self.study["primary_metric"])
        classes = list(map(str, self.study["classes"]))
        assays = config.get("assays") or {}
        sources = [f"{name} from {keys['matrix']}" for name, keys in assays.items() if keys.get("matrix")]
        sources += [
            f"{name} from the files in column {keys['column']}"
            for name, keys in assays.items()
            if keys.get("column")
        ]
        sheet = f"Sample sheet {config['samples']}" if config.get("samples") else ""
        prepared = [
            f"{name}: "
            + (
                _list([f"{k} {v}" for k, v in keys.items() if k not in ("matrix", "column", "annotation")])
                or "defaults"
            )
            for name, keys in assays.items()
        ]
        blocks = sorted({block for run in self.runs for block in run.get("blocks") or []})
        sites = samples["site"].value_counts() if "site" in samples.columns else None
        return {
            "4": (
                "filled",
                f"To develop and evaluate: {self.study.get('question') or question(self.study, primary, classes)}",
            ),
            "5a": ("begun", "; ".join(filter(None, [sheet, *sources])) + "." if sheet or sources else ""),
            "6a": (
                "begun",
                f"{plural(len(sites), 'site')}: {_list([f'{site} {n}' for site, n in sites.items()])} samples."
                if sites is not None
                else "",
            ),
            "7": ("begun", f"Options of each assay: {'; '.join(prepared)}." if prepared else ""),
            "8a": ("begun", f"The column label of the sample sheet: {self._sizes(samples)}."),
            "9a": (
                "begun",
                f"All features of {_list(blocks)}; what chooses among them is fitted on training samples alone."
                if blocks
                else "",
            ),
            "10": ("begun", f"{self._sizes(samples)}; no size was computed beforehand by this software."),
            "11": ("begun", self._missing()),
        }

    def _missing(self) -> str:
        """Say what was decided about missing values, and count those of the sheet."""
        assays = self._config.get("assays") or {}
        policy = {
            "refuse": "a missing value stops the study, so the blocks hold none",
            "allow": "missing values are allowed; hypotheses impute them from training samples",
        }
        told = [
            f"{name}: {policy.get(keys['missing_values'], keys['missing_values'])}."
            for name, keys in assays.items()
            if "missing_values" in keys
        ]
        gaps = {
            column: int((values.isna() | (values.astype(str).str.strip() == "")).sum())
            for column, values in self.samples.items()
        }
        holes = _list([f"{column} {n}" for column, n in gaps.items() if n])
        told.append(f"Missing in the sheet: {holes}." if holes else "No cell of the sample sheet is empty.")
        return _join([*told, self._check("CHK014")])

    def _analysis(self) -> dict[str, Answer]:
        config, tables = self._config, self.tables
        strata = sorted({name.partition("=")[0] for name in tables["evaluation"]["stratum"]} - {"all"})
        measured = [metric(key).title for key in dict.fromkeys(tables["evaluation"]["metric"])]
        dealt = scheme(self.study)
        models = [
            f"{run['hypothesis']} ({run.get('framework') or 'framework unknown'})" for run in self._trained
        ]
        n_bootstrap = config.get("bootstrap")
        in_training, in_test = self._in_training, self._in_test
        by_strata = f"Results are given by {_list(strata)}." if strata else ""
        trained, tested = set(in_training["sample_id"]), set(in_test["sample_id"])
        return {
            "12a": (
                "filled",
                _join([f"{dealt}: {self._split_sizes()}", self._check("CHK001"), self._check("CHK002")]),
            ),
            "12b": (
                "begun",
                "Scaling and transformation are part of each hypothesis and fitted on its training samples; "
                "settings are in its card."
                if models
                else "",
            ),
            "12c": (
                "filled",
                f"{_list(models, 30)}. The reason for each, its settings and its seed are in its card."
                if models
                else "",
            ),
            "12d": ("begun", _join([by_strata, self._check("CHK006"), self._check("CHK007")])),
            "12e": (
                "filled",
                _join(
                    [
                        f"Primary {self._primary}; also {_list([m for m in measured if m != self._primary], 20)}.",
                        str(self.study.get("estimand") or ""),
                        f"{n_bootstrap:,} resamples of patients." if isinstance(n_bootstrap, int) else "",
                        "Pairs are compared as the section on paired differences says.",
                    ]
                )
                if measured
                else "",
            ),
            "12f": ("filled", "This study updated no model after its evaluation."),
            "12g": (
                "filled",
                "Each fitted model predicted the test samples of its split; the probabilities are in "
                "predictions.parquet."
                if models
                else "",
            ),
            "13": (
                "begun",
                f"Classes: {self._sizes(self.samples)}. oncoarena adds and removes no samples to balance them; "
                "weights, where a hypothesis has any, are among its settings.",
            ),
            "14": ("begun", by_strata),
            "15": ("filled", self._output()),
            "16": (
                "begun",
                "One cohort: every sample that is tested in one split trains in another."
                if tested <= trained
                else f"In training {self._sizes(in_training)}; in test {self._sizes(in_test)}.",
            ),
        }

    def _output(self) -> str:
        rule = (self.study.get("endpoint") or {}).get("threshold_rule", "")
        if not rule:
            return "A probability for each class; the class called is the most probable one."
        return f"A probability for each class; {rule}."

    def _open_science(self) -> dict[str, Answer]:
        versions = (self.study.get("provenance") or {}).get("versions") or {}
        software = f"oncoarena {versions['oncoarena']}" if "oncoarena" in versions else "oncoarena"
        endpoint = self.study.get("endpoint") or {}
        sealed = endpoint.get("sealed", "")
        command = f" Command: {self.study['command']}." if self.study.get("command") else ""
        return {
            "18c": (
                "begun",
                f"The config names the primary metric, {self._primary}, and the splits; it is printed in this report."
                + (
                    f" The endpoint was sealed {moment(sealed)}, digest {endpoint['digest']}."
                    if sealed
                    else ""
                ),
            ),
            "18e": (
                "begun",
                "All results are tables beside this report; the data themselves are the authors' to give.",
            ),
            "18f": (
                "filled",
                f"{software}, BSD-3-Clause; versions and digests of the code are in this report.{command}",
            ),
        }

    def _results(self) -> dict[str, Answer]:
        tables, primary = self.tables, str(self.study["primary_metric"])
        flow = [
            f"{stage['stage']}: {plural(int(stage['n_samples']), 'sample')} of "
            f"{plural(int(stage['n_patients']), 'patient')}"
            for stage in self.study.get("flow") or []
        ]
        rows = tables["evaluation"]
        rows = rows[rows["metric"] == primary]
        scores = [
            f"{row.hypothesis} {decimals(row.estimate)}"
            + (f" ({span})" if (span := interval(row.ci_low, row.ci_high)) else "")
            for row in rows[rows["stratum"] == "all"].itertuples()
        ]
        n_strata = rows.loc[rows["stratum"] != "all", "stratum"].nunique()
        few = [
            f"{column}: {_list([f'{value} {n}' for value, n in self.samples[column].value_counts().items()])}"
            for column in self.samples.columns
            if column not in ("sample_id", "patient_id", "label", "split")
            and 2 <= self.samples[column].nunique() <= 12
        ]
        saved = [run["hypothesis"] for run in self._trained if run.get("models")]
        training, test = self._sizes(self._in_training), self._sizes(self._in_test)
        return {
            "20a": ("begun", "; ".join([*flow, f"by outcome: {self._sizes(self.samples)}"]) + "."),
            "20b": ("begun", "; ".join(few) + "." if few else ""),
            "20c": ("begun", f"Ever in training {training}; ever in test {test}."),
            "21": ("filled", f"{self._split_sizes()} Ever in training {training}; ever in test {test}."),
            "22": (
                "begun",
                f"Settings and seeds are in each card; the fitted models of {_list(saved)} are saved."
                if saved
                else "",
            ),
            "23a": ("filled", f"{self._primary} (95 % interval): {_list(scores, 30)}." if scores else ""),
            "23b": (
                "begun",
                f"{self._primary} by stratum ({n_strata}): see the section on strata." if n_strata else "",
            ),
            "24": ("filled", "This study updated no model."),
        }

    def _discussion(self) -> dict[str, Answer]:
        checks = self.tables["checks"]
        found = list(dict.fromkeys(checks.loc[checks["outcome"] == "finding", "code"]))
        verdict = _join([str(sentence) for sentence in self.study.get("verdict") or []])
        return {
            "25": ("begun", verdict),
            "26": (
                "begun",
                (f"Findings of the checks: {_list(found)}." if found else "The checks found nothing.")
                if len(checks)
                else "",
            ),
        }
