"""The command line beside Snakemake: check, plan, try, new-hypothesis, leaderboard, compare, aws, simulate."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from oncoarena import __version__, schema, simulation
from oncoarena.errors import InputError
from oncoarena.study import Study, read_study


def main(arguments: list[str] | None = None) -> int:
    """Run a command; print a user's mistake in plain lines and return 1."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"oncoarena: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has gone: that is no failure; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


_ShowDefaults = argparse.ArgumentDefaultsHelpFormatter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="oncoarena", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--version", action="version", version=f"oncoarena {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="check a study without running it")
    check.set_defaults(run=_check)
    planned = commands.add_parser(
        "plan", help="say what a study will take on AWS: jobs, nodes, bytes, hours, money"
    )
    planned.add_argument("--prices", help="a table of prices instead of the one that comes with oncoarena")
    planned.add_argument("--rates", help="a table of rates instead of the one that comes with oncoarena")
    planned.add_argument(
        "--memory-vcpus", type=int, default=256, help="at a time on the queue memory (default 256)"
    )
    planned.add_argument("--gpu-vcpus", type=int, default=64, help="at a time on the queue gpu (default 64)")
    planned.add_argument(
        "--small-vcpus", type=int, default=32, help="at a time on the queue small (default 32)"
    )
    planned.set_defaults(run=_plan)
    board = commands.add_parser("leaderboard", help="print the leaderboard of a finished study")
    board.add_argument("--profile", choices=["aws"], help="the study ran by `snakemake --profile aws`")
    board.set_defaults(run=_leaderboard)
    trial = commands.add_parser(
        "try", help="cross-validate hypotheses inside the training part of a study's first split"
    )
    trial.add_argument("hypotheses", nargs="+", metavar="HYPOTHESIS", help="names in config/hypotheses/")
    trial.add_argument("--folds", type=int, default=5, help="inner folds (default 5)")
    trial.set_defaults(run=_try)
    for command in (check, planned, board, trial):
        command.add_argument(
            "--configfile", type=Path, default=Path("config/config.yaml"), help="the study's config"
        )
    side = commands.add_parser("compare", help="lay several finished studies side by side on one page")
    side.add_argument("results", nargs="+", help="results/<study> of each study")
    side.add_argument("--page", type=Path, default=Path("comparison.html"), help="default: comparison.html")
    side.set_defaults(run=_compare)
    new = commands.add_parser("new-hypothesis", help="write a working hypothesis to start from")
    new.add_argument("name", help="a lower-case Python name, e.g. enhancer_burden")
    new.set_defaults(run=_new_hypothesis)
    cloud = commands.add_parser("aws", help="set up AWS for `snakemake --profile aws`")
    _add_aws(cloud.add_subparsers(required=True, metavar="STEP"))
    cohort = commands.add_parser("simulate", help="write a cohort with a planted signal, of any size")
    kinds = cohort.add_subparsers(required=True, metavar="KIND", dest="kind")
    for kind in simulation.KINDS:
        one = kinds.add_parser(kind, help=f"a cohort of {kind}", formatter_class=_ShowDefaults)
        one.add_argument("directory", type=Path, help="where the cohort goes")
        one.add_argument("--jobs", type=int, default=1, help="processes")
        for name, value in simulation.defaults(kind).items():
            flag = "--" + name.removeprefix("n_").replace("_", "-")
            one.add_argument(flag, dest=name, type=type(value), default=value, help=name)
        one.set_defaults(run=_simulate)
    return parser


def _add_aws(steps: Any) -> None:
    setup = steps.add_parser(
        "init", help="create or update buckets, queues, roles and a budget alarm; fill in config/aws.yaml"
    )
    setup.add_argument("--region", required=True, help="where data and jobs shall be, e.g. eu-central-1")
    setup.add_argument("--stack", default="oncoarena", help="name of the set-up (default: oncoarena)")
    setup.add_argument("--email", help="receives the budget alarm; needed the first time")
    setup.add_argument(
        "--budget", type=int, metavar="USD", help="of the whole account a month (default: 200)"
    )
    setup.add_argument("--raw-bucket", metavar="NAME", help="bucket that holds the raw data already")
    setup.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further parameter of infra/oncoarena.yaml; may be repeated",
    )
    setup.set_defaults(run=_aws_init)


def _content(options: argparse.Namespace) -> dict[str, Any]:
    """Read the config that was named; what a study needs beside it is found in the clone."""
    if not Path("workflow/schemas/config.schema.yaml").is_file():
        raise InputError(f"{Path.cwd()}: is not a clone of oncoarena; run this at the top of your clone")
    return schema.read_mapping(options.configfile)


def _study(content: dict[str, Any], options: argparse.Namespace) -> Study:
    """Read a study from the content of its config, perhaps changed."""
    return read_study(
        content,
        where=str(options.configfile),
        schemas=Path("workflow/schemas"),
        hypothesis_dirs=[Path("config/hypotheses")],
    )


def _check(options: argparse.Namespace) -> None:
    from oncoarena import plan, preflight

    study = _study(_content(options), options)
    preflight.check_study(study, plan.made_by_rules(study))
    # Without the config's name the demo would run.
    command = f"snakemake --cores all --configfile {shlex.quote(str(options.configfile))}"
    print(f"{options.configfile}: nothing wrong was found; run: {command}")


def _plan(options: argparse.Namespace) -> None:
    from oncoarena.costs import Limits
    from oncoarena.printed_plan import print_plan

    limits = Limits(options.memory_vcpus, options.gpu_vcpus, options.small_vcpus)
    study = _study(_content(options), options)
    print_plan(study, sys.stdout, prices=options.prices, rates=options.rates, limits=limits)


def _leaderboard(options: argparse.Namespace) -> None:
    from oncoarena import reach, store
    from oncoarena.aws.settings import read_settings
    from oncoarena.results import read_leaderboard

    content = _content(options)
    if options.profile == "aws":
        content["results"] = reach.remote_results(content, read_settings().results)
    study = _study(content, options)
    if not store.exists(f"{study.results}/evaluation.parquet"):
        place = "--cores all" if options.profile is None else f"--profile {options.profile}"
        raise InputError(
            f"{study.results}: holds no finished study; run: snakemake {place} --configfile {options.configfile}"
        )
    print(read_leaderboard(study.results, study.referee()))
    print(f"\nReport: {study.results}/report.html")


def _try(options: argparse.Namespace) -> None:
    from oncoarena import trial

    names = list(dict.fromkeys([*options.hypotheses, "l2_logistic", "prior_only"]))
    study = _study(_content(options) | {"hypotheses": names}, options)
    receipts = [f"{study.results}/blocks/{plan.name}.json" for plan in study.assays]
    splits = f"{study.results}/splits/receipt.json"
    # Snakemake knows whether splits and blocks are there and up to date.
    command = [sys.executable, "-m", "snakemake", splits, *receipts, "--cores", "all", "--quiet", "all"]
    if subprocess.run([*command, "--configfile", str(options.configfile)], check=False).returncode != 0:
        raise InputError("splits and blocks of the study could not be prepared; see above")
    cohort = trial.training_part(splits, receipts)
    table = trial.try_hypotheses(study.hypotheses, cohort, n_folds=options.folds, seed=study.seed)
    print(trial.print_trial(table, cohort))


def _compare(options: argparse.Namespace) -> None:
    from oncoarena import store
    from oncoarena.reporting.compare import compare

    store.write_text(str(options.page), compare(options.results, page=str(options.page)))
    print(f"Wrote {options.page}")


def _new_hypothesis(options: argparse.Namespace) -> None:
    from oncoarena.scaffold import new_hypothesis

    module, entry = new_hypothesis(options.name, Path.cwd())
    print(f"Wrote {module.relative_to(Path.cwd())}: your claim, its Config and its fit.")
    print(f"Wrote {entry.relative_to(Path.cwd())}: its entry; add {options.name!r} to a study's hypotheses.")
    print(f"Then: oncoarena try {options.name}   and   pytest tests/test_hypotheses*.py -k {options.name}")


def _aws_init(options: argparse.Namespace) -> None:
    from oncoarena.aws.init import init, read_parameters

    init(
        options.stack,
        options.region,
        email=options.email,
        monthly_budget_usd=options.budget,
        raw_bucket=options.raw_bucket,
        parameters=read_parameters(options.parameter),
    )


def _simulate(options: argparse.Namespace) -> None:
    names = ["kind", *simulation.defaults(options.kind)]
    sheet = simulation.simulate(
        options.directory, {name: vars(options)[name] for name in names}, options.jobs
    )
    print(f"Wrote {sheet} and what it names")


if __name__ == "__main__":
    sys.exit(main())
