"""What jobs on AWS would not find, and what must not reach them: untracked files, data on this machine, secrets.

Snakemake 9.27 (``DAG.get_sources``, ``Workflow.write_source_archive``) packs Snakefile, rules, scripts, config
files and all that ``git ls-files --recurse-submodules .`` names below the folder it runs in, as it lies on disk: an
edit needs no commit, a new file needs ``git add``. Files of more than 10 MB are left out.
"""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

import oncoarena
from oncoarena import plan, provenance, store
from oncoarena.aws.settings import AwsSettings
from oncoarena.errors import Faults, InputError
from oncoarena.study import Study

MAX_SHIPPED_BYTES = 10_000_000
"""Snakemake leaves larger files out of what it ships."""

PACKAGE = "src/oncoarena"
CODE = ("workflow", "src")
"""Folders of which jobs may need any file."""

SECRETS = {
    "an AWS access key": re.compile(rb"(?<![A-Za-z0-9])A[KS]IA[A-Z2-7]{16}(?![A-Za-z0-9])"),
    "an AWS secret key or session token": re.compile(
        rb"(?i)(?:secret_?access_?key|session_?token)[\"']?\s*[:=]\s*[\"']?[a-z0-9/+=]{40,}"
    ),
}
EXAMPLE = b"EXAMPLE"
"""In the keys that AWS prints in its documentation."""


def check_sources(study: Study, root: Path, tracked: Sequence[str], configfiles: Sequence[Path] = ()) -> None:
    """Check that jobs will find config, code and hypotheses of a study, and no secret.

    Parameters: ``root`` is the folder of the Snakefile; ``tracked`` is what ``tracked_files`` returns for it;
    ``configfiles`` are those that Snakemake read. Raises InputError with a line for each problem.
    """
    if Path.cwd().resolve() != root.resolve():
        raise InputError(
            f"Snakemake runs in {Path.cwd()}, and jobs on AWS get nothing from outside of it; "
            f"run: cd {shlex.quote(str(root))}"
        )
    shipped = [*tracked, *(os.path.relpath(path, root) for path in configfiles)]
    faults = Faults(what="problem")
    for name in tracked:
        if not (root / name).exists():
            file = shlex.quote(name)
            faults.add(
                f"{name}: git tracks it, but it is gone; run: git rm --cached {file}   or: git restore {file}"
            )
    for line in _untracked(study, root):
        faults.add(line)
    for path in configfiles:
        if not path.resolve().is_relative_to(root.resolve()):
            faults.add(
                f"{path}: lies outside of {root}, so jobs on AWS would not get it; "
                f"run: cp {shlex.quote(str(path))} {shlex.quote(str(root))}   and give that as --configfile"
            )
    for line in _secrets(study, root, dict.fromkeys(shipped)):
        faults.add(line)
    faults.tell()


def tracked_files(root: Path) -> list[str]:
    """Return what git tracks below a folder, relative to it, by the command that Snakemake gives.

    Raises InputError if there is no git, no repository, or a name that Snakemake cannot read from git.
    """
    names = _git(root, "ls-files", "--recurse-submodules", ".")
    if any(name.startswith('"') for name in names):
        raise InputError(
            f"{root}: git quotes the names of some files, which Snakemake then does not find; "
            "run: git config core.quotePath false"
        )
    return names


def untracked_sources(study: Study, root: Path) -> list[str]:
    """Name the source files, relative to ``root``, that a study's jobs need and that git does not track."""
    tracked = set(tracked_files(root))
    others = _git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    named = [str(path) for path in _hypothesis_files(study, root) if not path.is_absolute()]
    return sorted({*others, *named} - tracked)


def check_data(
    study: Study,
    samples: pd.DataFrame | None,
    settings: AwsSettings,
    root: Path,
    tracked: Sequence[str],
) -> None:
    """Refuse data that lie on this machine only: jobs see what is on S3 and what git ships.

    Parameters: ``samples`` is the checked sheet, None where a rule makes it; ``tracked`` is what
    ``tracked_files`` returns for ``root``. Raises InputError with a line for each file.
    """
    shipped, made = set(tracked), set(plan.made_by_rules(study))
    faults = Faults(what="local file")
    for place, uri in data_uris(study, samples):
        if store.is_remote(uri) or uri in made:
            continue
        file = Path(uri.removeprefix("file://"))
        if not file.is_file():
            continue  # preflight.check_study tells what is missing
        if os.path.relpath(file, root) not in shipped or file.stat().st_size > MAX_SHIPPED_BYTES:
            target = f"{settings.results}/inputs/{file.name}"
            faults.add(
                f"{place}: {uri} lies on this machine, where jobs on AWS do not see it; name {target}, "
                f"and run: aws s3 cp {shlex.quote(str(file))} {shlex.quote(target)}"
            )
    faults.tell()


def data_uris(study: Study, samples: pd.DataFrame | None) -> Iterator[tuple[str, str]]:
    """Yield place and path or URI of every file of data that a study names, each once."""
    yield "samples", study.samples
    if study.splits.table:
        yield "splits.table", study.splits.table
    for item in study.external:
        yield f"external {item.id}", item.predictions
    for spec in study.hypotheses:
        yield from (
            (f"hypothesis {spec.id}: config.{key}", uri) for key, uri in spec.training.files().items()
        )
    for assay in study.assays:
        for option, uri in {"matrix": assay.matrix, "annotation": assay.annotation, **assay.files()}.items():
            if uri is not None:
                yield f"assays.{assay.name}.{option}", uri
        if assay.column is not None and samples is not None:
            place = f"{study.samples}: column {assay.column!r}"
            yield from ((place, uri) for uri in samples[assay.column].unique())


def _git(root: Path, *arguments: str) -> list[str]:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InputError("git was not found; Snakemake ships what git tracks: install git") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
        mend = "; run: git init && git add ." if "not a git repository" in said[0] else ""
        raise InputError(
            f"{root}: jobs on AWS get what git tracks, but {said[0].removeprefix('fatal: ')}{mend}"
        )
    return [name for name in done.stdout.decode(errors="surrogateescape").split("\n") if name]


def _untracked(study: Study, root: Path) -> Iterator[str]:
    outside = [path for path in _hypothesis_files(study, root) if path.is_absolute()]
    for path in outside:
        yield (
            f"{path}: lies outside of {root}, so jobs on AWS would not get it; copy it into the repository, "
            "name it there in config/hypotheses/, then: git add"
        )
    for name in untracked_sources(study, root):
        yield (
            f"{name}: git does not track it, so jobs on AWS would not get it; "
            f"run: git add {'--force ' if _is_ignored(root, name) else ''}{shlex.quote(name)}"
        )


def _is_ignored(root: Path, name: str) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", name], cwd=root, check=False).returncode == 0


def _hypothesis_files(study: Study, root: Path) -> list[Path]:
    """Entries and modules of a study's hypotheses with what they import, relative to ``root`` where below it.

    What is installed beside this Python is taken to be installed in the image of the jobs too.
    """
    in_image = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]
    in_image += [] if (root / PACKAGE).is_dir() else [Path(oncoarena.__file__).resolve().parent]
    root = root.resolve()
    files = []
    for spec in study.hypotheses:
        files.append(Path("config/hypotheses", f"{spec.id}.yaml"))
        module = _module_file(spec.training.module, root)
        if any(module.is_relative_to(folder) for folder in in_image):
            continue
        if not module.is_relative_to(root):
            files.append(module)
            continue
        found: dict[str, Path] = {}
        provenance.collect_imports(module, found)
        files += [file.relative_to(root) for file in found.values()]
    return list(dict.fromkeys(files))


def _module_file(module: str, root: Path) -> Path:
    """Source of a hypothesis as jobs will find it: by name below ``src``, whatever is installed on this machine."""
    shipped = root / "src" / Path(*module.split("."))
    if not module.endswith(".py") and shipped.with_suffix(".py").is_file():
        return shipped.with_suffix(".py").resolve()
    return provenance.module_file(module).resolve()


def _secrets(study: Study, root: Path, shipped: Iterable[str]) -> Iterator[str]:
    """Say which file and line look like a credential, without showing it."""
    config = json.dumps(dataclasses.asdict(study), default=str).encode()
    for what, _ in _find_secrets(config):
        yield f"the study's config holds {what}; remove it: jobs get their rights from their role"
    for name in shipped:
        file = root / name
        if file.is_file() and file.stat().st_size <= MAX_SHIPPED_BYTES:
            content = file.read_bytes()
            for what, position in _find_secrets(content):
                line = content.count(b"\n", 0, position) + 1
                yield (
                    f"{name}: line {line}: holds {what}, which would be shipped; remove it, and make it invalid: "
                    "aws iam delete-access-key --access-key-id ..."
                )


def _find_secrets(content: bytes) -> Iterator[tuple[str, int]]:
    for what, pattern in SECRETS.items():
        for found in pattern.finditer(content):
            if EXAMPLE not in found.group():
                yield what, found.start()
                break
