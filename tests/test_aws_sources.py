"""What jobs on AWS would not get from this machine, and what they must not get, is told before they start."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from aws_account import ACCESS_KEY, SETTINGS, git, study_of, write_repository, write_sheet
from oncoarena.aws.sources import (
    MAX_SHIPPED_BYTES,
    SECRETS,
    check_data,
    check_sources,
    tracked_files,
    untracked_sources,
)
from oncoarena.errors import InputError
from studies import ROOT


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path)
    return tmp_path


def check(study, repository, configfiles=()):
    check_sources(study, repository, tracked_files(repository), configfiles)


def complaints(check, *arguments):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    return str(caught.value).splitlines()


def only_complaint(repository, **changes):
    (line,) = complaints(check, study_of(**changes), repository)
    return line


def data_complaint(repository, **changes):
    study = study_of(**changes)
    samples = pd.read_csv("samples.tsv", sep="\t")
    return complaints(check_data, study, samples, SETTINGS, repository, tracked_files(repository))


# Code and hypotheses


def test_check_sources__added_but_not_committed_is_enough(repository):
    check(study_of(), repository)
    Path("claims/idea.py").write_text(Path("claims/idea.py").read_text() + "# edited\n")
    check(study_of(), repository)
    assert untracked_sources(study_of(), repository) == []


@pytest.mark.parametrize(
    "name", ["claims/idea.py", "claims/shared.py", "config/hypotheses/idea.yaml", "workflow/rules/train.smk"]
)
def test_check_sources__untracked_file_is_named_with_its_command(repository, name):
    git(repository, "rm", "--quiet", "--cached", name)
    assert untracked_sources(study_of(), repository) == [name]
    line = only_complaint(repository)
    assert line == f"{name}: git does not track it, so jobs on AWS would not get it; run: git add {name}"
    subprocess.run(line.partition("; run: ")[2], shell=True, check=True)
    check(study_of(), repository)


def test_check_sources__hypothesis_that_git_ignores_needs_force(repository):
    shutil.move("claims", "private")
    Path("config/hypotheses/idea.yaml").write_text("title: An idea\nmodule: private/idea.py\n")
    git(repository, "add", "--all")
    lines = complaints(check, study_of(), repository)
    assert [line.partition("; run: ")[2] for line in lines] == [
        "git add --force private/idea.py",
        "git add --force private/shared.py",
    ]


def test_check_sources__untracked_hypothesis_of_another_study_does_not_matter(repository):
    Path("config/hypotheses/other.yaml").write_text("title: x\nmodule: nowhere.py\n")
    check(study_of(), repository)


def test_check_sources__hypothesis_named_like_a_package_is_looked_for_in_src(repository):
    """The clone's own package is what jobs import, whatever package this test runs with."""
    package = Path("src/oncoarena/hypotheses")
    package.mkdir(parents=True)
    shutil.copy(ROOT / package / "prior_only.py", package)
    lines = complaints(check, study_of(), repository)
    assert lines == [
        f"{package}/prior_only.py: git does not track it, so jobs on AWS would not get it; "
        f"run: git add {package}/prior_only.py"
    ]


def test_check_sources__hypothesis_outside_of_the_repository(repository, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "idea.py"
    shutil.copy("claims/idea.py", elsewhere)
    Path("config/hypotheses/idea.yaml").write_text(f"title: An idea\nmodule: {elsewhere}\n")
    assert only_complaint(repository).startswith(f"{elsewhere}: lies outside of {repository}")


def test_check_sources__config_file_inside_need_not_be_tracked_but_outside_is_lost(
    repository, tmp_path_factory
):
    """Snakemake packs the config files that it read, if they lie below the folder that it runs in."""
    inside = Path("my-study.yaml")
    inside.write_text("study: toy\n")
    check(study_of(), repository, [inside])
    outside = tmp_path_factory.mktemp("home") / "my-study.yaml"
    outside.write_text("study: toy\n")
    (line,) = complaints(check, study_of(), repository, [outside])
    assert line.startswith(f"{outside}: lies outside of {repository}")
    assert f"run: cp {outside} {repository} " in line


def test_check_sources__tracked_file_that_is_gone(repository):
    """Snakemake itself ends with a traceback here."""
    Path("workflow/rules/train.smk").unlink()
    line = only_complaint(repository)
    assert line.startswith("workflow/rules/train.smk: git tracks it, but it is gone; run: git rm --cached")


def test_check_sources__name_that_git_quotes(repository):
    Path("données.txt").write_text("x\n")
    git(repository, "add", ".")
    line = only_complaint(repository)
    assert line.endswith("run: git config core.quotePath false")
    subprocess.run(line.partition("; run: ")[2], shell=True, check=True)
    check(study_of(), repository)


def test_check_sources__no_repository(repository):
    shutil.rmtree(".git")
    line = only_complaint(repository)
    assert "jobs on AWS get what git tracks, but not a git repository" in line
    assert line.endswith("run: git init && git add .")


def test_check_sources__no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert only_complaint(repository).startswith("git was not found")


def test_check_sources__snakemake_started_elsewhere(repository, monkeypatch):
    study = study_of()
    monkeypatch.chdir(repository / "claims")
    (line,) = complaints(check, study, repository)
    assert line.endswith(f"run: cd {repository}")


def test_tracked_files__are_what_snakemake_packs(repository):
    """Snakemake's own archive: edited files as they are on disk, untracked and large ones not at all."""
    Path("Snakefile").write_text("rule all:\n    output: 'done'\n    shell: 'touch {output}'\n")
    git(repository, "add", ".")
    Path("claims/idea.py").write_text("# edited\n")
    Path("claims/new.py").write_text("# new\n")
    Path("large.bin").write_bytes(bytes(MAX_SHIPPED_BYTES + 1))
    git(repository, "add", "large.bin")
    script = (
        "import sys\nfrom pathlib import Path\nfrom snakemake.api import *\nfrom snakemake.settings.types import *\n"
        "with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:\n"
        "    flow = api.workflow(resource_settings=ResourceSettings(cores=1), snakefile=Path('Snakefile'))\n"
        "    flow.dag().summary()\n"
        "    flow._workflow.write_source_archive(Path('sources.tar.xz'))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    with tarfile.open("sources.tar.xz") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
        assert archive.extractfile("claims/idea.py").read() == b"# edited\n"
    assert {"Snakefile", "claims/idea.py", "config/hypotheses/idea.yaml", "samples.tsv"} <= names
    assert not {"claims/new.py", "large.bin"} & names


# Data


def test_check_data__small_tracked_files_and_objects_on_s3_are_fine(repository):
    check_data(
        study_of(), pd.read_csv("samples.tsv", sep="\t"), SETTINGS, repository, tracked_files(repository)
    )


def test_check_data__untracked_sheet_matrix_and_predictions(repository):
    git(repository, "rm", "--quiet", "--cached", "samples.tsv")
    Path("my data").mkdir()
    Path("my data/m.tsv").write_text("gene\n")
    lines = data_complaint(
        repository,
        assays={"expression": {"matrix": "my data/m.tsv"}},
        external=[{"id": "paper", "predictions": "my data/m.tsv"}],
    )
    assert [line.partition(":")[0] for line in lines] == [
        "samples",
        "external paper",
        "assays.expression.matrix",
    ]
    assert lines[2].endswith("run: aws s3 cp 'my data/m.tsv' s3://onco-results/team/inputs/m.tsv")


def test_check_data__file_of_a_sample_on_this_machine(repository):
    Path("s0.tsv").write_text("gene\n")
    Path("samples.tsv").write_text(Path("samples.tsv").read_text().replace("s3://onco-raw/s0.tsv", "s0.tsv"))
    (line,) = data_complaint(repository)
    assert line.startswith("samples.tsv: column 'expression': s0.tsv lies on this machine")


def test_check_data__tracked_but_too_large_to_be_shipped(repository):
    Path("m.tsv").write_bytes(bytes(MAX_SHIPPED_BYTES + 1))
    git(repository, "add", "m.tsv")
    (line,) = data_complaint(repository, assays={"expression": {"matrix": "m.tsv"}})
    assert "m.tsv lies on this machine, where jobs on AWS do not see it" in line


def test_check_data__a_thousand_local_files_are_told_in_a_few_lines(repository):
    write_sheet(repository, "{}.tsv")
    ids = [f"s{row}" for row in range(1000)]
    for name in ids:
        Path(f"{name}.tsv").touch()
    samples = pd.DataFrame({"sample_id": ids, "expression": [f"{name}.tsv" for name in ids]})
    lines = complaints(check_data, study_of(), samples, SETTINGS, repository, tracked_files(repository))
    assert len(lines) == 21
    assert lines[-1] == "and 980 more local files"


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        f"aws_access_key_id = {ACCESS_KEY}",
        f'export AWS_ACCESS_KEY_ID="{ACCESS_KEY.replace("AKIA", "ASIA")}"',
        "aws_secret_access_key = " + "wJalrXUtnF" * 4,
        '"SecretAccessKey": "' + "abc/DEF+12" * 4 + '"',
        "AWS_SESSION_TOKEN=" + "IQoJb3JpZ2" * 20,
    ],
)
def test_check_sources__secret_is_named_by_file_and_line_but_not_shown(repository, text):
    Path("claims/notes.txt").write_text(f"first line\nsecond line\n{text}\n")
    git(repository, "add", ".")
    line = only_complaint(repository)
    assert line.startswith("claims/notes.txt: line 3: holds an AWS ")
    assert not any(
        word in line for word in text.replace('"', " ").replace("=", " ").split() if len(word) > 19
    )


def test_check_sources__secret_in_an_untracked_config_file(repository):
    Path("my-study.yaml").write_text(f"# {ACCESS_KEY}\n")
    (line,) = complaints(check, study_of(), repository, [Path("my-study.yaml")])
    assert line.startswith("my-study.yaml: line 1: holds an AWS access key, which would be shipped")


def test_check_sources__secret_in_the_config(repository):
    line = only_complaint(repository, samples=f"s3://{ACCESS_KEY}:x@bucket/samples.tsv")
    assert line.startswith("the study's config holds an AWS access key")
    assert ACCESS_KEY not in line


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7" + "EXAMPLE",
        "MASIAQRLTVGDEHKNWYPFCQRLTVGDEHK",
        "aws_secret_access_key = $AWS_SECRET_ACCESS_KEY",
        '"AWS_SECRET_ACCESS_KEY": "testsecret"',
    ],
)
def test_check_sources__what_is_no_secret_passes(repository, text):
    """A documented example, a protein, a variable, a key of a test."""
    Path("claims/notes.txt").write_text(text)
    git(repository, "add", ".")
    check(study_of(), repository)


def test_check_sources__this_repository_holds_no_secret():
    found = [
        name
        for name in tracked_files(ROOT)
        if (ROOT / name).is_file() and any(p.search((ROOT / name).read_bytes()) for p in SECRETS.values())
    ]
    assert found == []
