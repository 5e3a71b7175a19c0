"""A study as configured: which cohort, which splits, which hypotheses; read and checked before any job."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from oncoarena import assays, schema, store
from oncoarena.errors import Faults, InputError
from oncoarena.refits import Refit, Thresholds, refits
from oncoarena.specs import HypothesisSpec, read_spec
from oncoarena.splits import SplitPlan


@dataclass(frozen=True)
class AssayPlan:
    """One assay of a study: where its input is and how it is read."""

    name: str
    options: Any
    """The assay module's ``Options``."""
    matrix: str | None = None
    """URI of a cohort-wide matrix, or None where each sample has its own object."""
    column: str | None = None
    """Column of the sample sheet that holds each sample's URI."""
    annotation: str | None = None
    """URI of a feature annotation table, or None."""

    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks that one pass of the assay yields with its options."""
        module = assay_module(self.name)
        return tuple(module.offered(self.options)) if hasattr(module, "offered") else tuple(module.BLOCKS)

    def is_set(self, block: str) -> bool:
        """Tell whether a block of the assay is a set, see ``BlockSpec.is_set``."""
        return assay_module(self.name).BLOCKS[block].is_set

    def files(self) -> dict[str, str]:
        """Files beside the objects that the assay reads, by the option that names them."""
        names = getattr(assay_module(self.name), "FILES", ())
        return {name: getattr(self.options, name) for name in names if getattr(self.options, name)}


@dataclass(frozen=True)
class External:
    """Predictions of a model trained elsewhere, entered as a competitor on the same splits."""

    id: str
    title: str
    predictions: str


@dataclass(frozen=True)
class Study:
    """Everything that the config says, checked and typed."""

    name: str
    samples: str
    results: str
    """Directory or URI of this study's results, ``<results>/<study>``."""
    seed: int
    assays: tuple[AssayPlan, ...]
    splits: SplitPlan
    hypotheses: tuple[HypothesisSpec, ...]
    external: tuple[External, ...] = ()
    covariates: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    primary_metric: str = "accuracy"
    positive: str | None = None
    """The label that counts as positive in a study of two; None means the last in alphabetical order."""
    prevalence: float | None = None
    """Share of the positive label, of two, at which predictive values are stated."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    seeds: int = 1
    """How many seeds each claim and baseline is trained with."""
    learning_curve: tuple[float, ...] = ()
    """Shares of the training patients on which claims and baselines are trained."""
    bootstrap: int = 1000
    save_models: bool = False
    explain: bool = True
    """Whether hypotheses that can are asked what each feature of a test sample said."""
    shard_samples: int = 500
    """Samples that one extraction job reads at most."""
    shard_gb: float = 200.0
    """Bytes that one extraction job reads, 10^9: it ends with the object that reaches this."""
    on_bad_sample: str = "stop"
    """What an object that cannot be read does to the study: stop it, or exclude its sample."""
    simulate: Mapping[str, Any] | None = None

    def hypothesis(self, name: str) -> HypothesisSpec:
        """Return the entered hypothesis with this id."""
        return next(spec for spec in self.hypotheses if spec.id == name)

    def assay(self, name: str) -> AssayPlan:
        """Return the entered assay with this name."""
        return next(plan for plan in self.assays if plan.name == name)

    def assays_of(self, spec: HypothesisSpec) -> list[str]:
        """Names of the assays whose blocks a hypothesis sees."""
        return [
            plan.name
            for plan in self.assays
            if spec.training.blocks is None or set(spec.training.blocks) & set(plan.blocks())
        ]

    def refits_of(self, spec: HypothesisSpec) -> list[Refit]:
        """List what a hypothesis trains beside the models that compete."""
        return refits(self.thresholds, self.seeds, self.learning_curve, spec.role)

    def refit(self, spec: HypothesisSpec, purpose: str) -> Refit:
        """Return what a hypothesis trains for one purpose."""
        return next(item for item in self.refits_of(spec) if item.purpose == purpose)

    def sheet_needs(self) -> dict[str, Any]:
        """What this study needs of its sample sheet: the arguments of ``samples.read_samples``."""
        return {
            "columns": list(self.splits.columns()),
            "typed": list(dict.fromkeys([*self.covariates, *self.strata])),
            "paths": [plan.column for plan in self.assays if plan.column],
            "min_patients": self.splits.min_patients(),
            "positive": self.positive,
            "prevalence": self.prevalence,
        }

    def endpoint(self) -> dict[str, Any]:
        """What is sealed before a model is trained: the arguments of ``referee.endpoint.describe_endpoint``."""
        return {
            "primary": self.primary_metric,
            "rule": self.thresholds.rule(),
            "positive": self.positive,
        }

    def referee(self) -> dict[str, Any]:
        """What the evaluation depends on beside tables: the arguments of ``results.evaluate``."""
        return {
            "competitors": {
                spec.id: {"title": spec.title, "role": spec.role, "claim": spec.claim}
                for spec in self.hypotheses
            },
            "external": [asdict(item) for item in self.external],
            "strata": list(self.strata),
            "primary_metric": self.primary_metric,
            "positive": self.positive,
            "prevalence": self.prevalence,
            "thresholds": asdict(self.thresholds),
            "bootstrap": self.bootstrap,
            "seed": self.seed,
        }


def assay_from_dict(content: Mapping[str, Any]) -> AssayPlan:
    """Rebuild an assay's plan from ``dataclasses.asdict``, as it is passed to a job."""
    options = assay_module(content["name"]).Options(**content["options"])
    return AssayPlan(**{**content, "options": options})


def assay_names() -> list[str]:
    """Names of the assays that oncoarena can read: the folder is the registry."""
    return sorted(found.name for found in pkgutil.iter_modules(assays.__path__) if _is_assay(found.name))


def _is_assay(name: str) -> bool:
    """Look for BLOCKS in the text: importing every module would load the libraries of every format."""
    text = Path(assays.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    return text.startswith("BLOCKS") or "\nBLOCKS" in text


def assay_module(name: str) -> Any:
    """Import an assay by name."""
    return importlib.import_module(f"oncoarena.assays.{name}")


def read_study(
    config: Mapping[str, Any], *, where: str, schemas: Path, hypothesis_dirs: Sequence[Path]
) -> Study:
    """Check a config against its closed schema and read the hypotheses that it names.

    Parameters: ``where`` names the config's source in messages; ``schemas`` is the folder of the schemas;
    ``hypothesis_dirs`` are searched in order for ``<id>.yaml``.
    Raises InputError with a line for each problem.
    """
    schema.check(config, schema.read_yaml(schemas / "config.schema.yaml"), where)
    content = dict(config)
    faults = Faults()
    specs = faults.collect(_read_hypotheses, content["hypotheses"], where, schemas, hypothesis_dirs)
    plans = [faults.collect(_read_assay, name, keys, where) for name, keys in content["assays"].items()]
    splits = faults.collect(_read_splits, content["splits"], where)
    thresholds = faults.collect(_read_thresholds, content.get("thresholds", {}), where)
    faults.tell()
    study = Study(
        name=content["study"],
        samples=content["samples"],
        results=store.join(content.get("results", "results"), content["study"]),
        seed=content.get("seed", 0),
        assays=tuple(plans),
        splits=splits,
        hypotheses=specs,
        thresholds=thresholds,
        external=tuple(External(**{"title": item["id"], **item}) for item in content.get("external", [])),
        **{
            key: tuple(content[key]) if isinstance(content[key], list) else content[key]
            for key in (
                "covariates",
                "strata",
                "primary_metric",
                "positive",
                "prevalence",
                "seeds",
                "learning_curve",
                "bootstrap",
                "save_models",
                "explain",
                "shard_samples",
                "shard_gb",
                "on_bad_sample",
                "simulate",
            )
            if key in content
        },
    )
    _check_names(study, where)
    return study


def _read_hypotheses(
    names: Sequence[str], where: str, schemas: Path, directories: Sequence[Path]
) -> tuple[HypothesisSpec, ...]:
    hypothesis_schema = schema.read_yaml(schemas / "hypothesis.schema.yaml")
    specs, faults = [], Faults()
    for name in names:
        found = [path for path in (folder / f"{name}.yaml" for folder in directories) if path.is_file()]
        if not found:
            known = {path.stem for folder in directories for path in folder.glob("*.yaml")}
            faults.add(
                f"{where}: hypotheses: {name!r} has no file {directories[0] / name}.yaml"
                f"{schema.suggestion(name, known)}"
            )
        else:
            specs.append(faults.collect(read_spec, found[0], hypothesis_schema))
    faults.tell()
    return tuple(specs)


def _read_assay(name: str, keys: Mapping[str, Any], where: str) -> AssayPlan:
    place = f"{where}: assays.{name}"
    if name not in assay_names():
        raise InputError(f"{place}: there is no such assay{schema.suggestion(name, assay_names())}")
    option_names = {item.name for item in fields(assay_module(name).Options)}
    own = {"matrix", "column", "annotation"}
    for key, value in keys.items():
        if key not in own | option_names:
            raise InputError(f"{place}: unknown key {key!r}{schema.suggestion(key, own | option_names)}")
        if key in own and not (isinstance(value, str) and value):
            raise InputError(f"{place}.{key}: found {value!r}, expected text")
    if ("matrix" in keys) == ("column" in keys):
        raise InputError(
            f"{place}: expected either matrix (one file for the cohort) or column (the sample sheet's column with "
            "each sample's file)"
        )
    if "matrix" in keys and not hasattr(assay_module(name), "read_matrix"):
        raise InputError(f"{place}: {name} is read from one file a sample; give column instead of matrix")
    try:
        options = assay_module(name).Options(**{key: keys[key] for key in keys if key in option_names})
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    return AssayPlan(name, options, **{key: keys[key] for key in keys if key in own})


def _read_splits(content: Mapping[str, Any], where: str) -> SplitPlan:
    scheme = content["scheme"]
    if scheme == "table" and "table" not in content:
        raise InputError(f"{where}: splits: scheme table needs the key table (the path of a TSV)")
    meaningless = {
        "kfold": ("table",),
        "official": ("table", "folds", "repeats"),
        "leave_one_site_out": ("table", "folds", "repeats"),
        "table": ("folds", "repeats"),
    }[scheme]
    for key in meaningless:
        if key in content:
            raise InputError(f"{where}: splits.{key} has no meaning with scheme {scheme}; remove it")
    return SplitPlan(**content)


def _read_thresholds(content: Mapping[str, Any], where: str) -> Thresholds:
    try:
        return Thresholds(**content)
    except InputError as error:
        raise InputError(f"{where}: thresholds.{error}") from error


def _check_names(study: Study, where: str) -> None:
    """Refuse names that collide or that nothing provides."""
    faults = Faults()
    ids = [spec.id for spec in study.hypotheses] + [item.id for item in study.external]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        faults.add(f"{where}: {name!r} is both a hypothesis and an external model; rename one")
    offered = [block for plan in study.assays for block in plan.blocks()]
    sets = [block for plan in study.assays for block in plan.blocks() if plan.is_set(block)]
    for spec in study.hypotheses:
        for block in spec.training.blocks or ():
            if block not in offered:
                faults.add(
                    f"{where}: hypothesis {spec.id} needs block {block!r}, which no assay of this study yields"
                    f"{schema.suggestion(block, offered)}; add the assay or remove the hypothesis"
                )
            elif block in sets and block not in spec.training.sets:
                faults.add(
                    f"{where}: hypothesis {spec.id} cannot read block {block!r}, a set of mutations and no features; "
                    f"remove it from its blocks"
                )
    if "label" in study.covariates:
        faults.add(f"{where}: covariates: 'label' is the truth itself; remove it")
    faults.tell()
