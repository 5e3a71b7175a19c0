"""What a config or the command line may ask of the simulators."""

import re
import subprocess
import sys

import pandas as pd
import pytest

from oncoarena import cli, simulation
from oncoarena.errors import InputError


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_defaults__are_legal_and_are_what_help_offers(kind, capsys):
    assert simulation.read_request({"kind": kind}) == (kind, {})
    with pytest.raises(SystemExit):
        cli.main(["simulate", kind, "--help"])
    shown = capsys.readouterr().out
    for name in simulation.defaults(kind):
        assert f"--{name.removeprefix('n_').replace('_', '-')} " in shown


def test_read_request__refuses_an_unknown_kind_and_key():
    with pytest.raises(InputError, match="kind: found 'cfDNA', expected one of expression, cfdna, multiomic"):
        simulation.read_request({"kind": "cfDNA"})
    with pytest.raises(InputError, match="unknown key 'n_read'; did you mean 'n_reads'"):
        simulation.read_request({"kind": "cfdna", "n_read": 5})
    assert simulation.cohort_files({"kind": "cfdna", "n_read": 5}) == ()
    for name in simulation.NOT_ARGUMENTS:
        with pytest.raises(InputError, match=f"unknown key '{name}'"):
            simulation.read_request({"kind": "cfdna", name: "x"})


def test_simulate__command_line_writes_what_the_library_writes(tmp_path, capsys):
    words = ["--samples", "4", "--reads", "200", "--strength", "2", "--seed", "9"]
    assert cli.main(["simulate", "cfdna", str(tmp_path / "a"), *words]) == 0
    assert "samples.tsv" in capsys.readouterr().out
    content = {"kind": "cfdna", "n_samples": 4, "n_reads": 200, "strength": 2.0, "seed": 9}
    sheet = pd.read_csv(simulation.simulate(tmp_path / "b", content, 2), sep="\t")
    for name in sheet["sample_id"]:
        first, second = ((tmp_path / side / f"alignments/{name}.bam").read_bytes() for side in "ab")
        assert first == second
    assert pd.read_csv(tmp_path / "a/samples.tsv", sep="\t")["simulation"].equals(sheet["simulation"])


def test_simulate__mistake_on_the_command_line_is_one_line(tmp_path, capsys):
    assert cli.main(["simulate", "cfdna", str(tmp_path), "--samples", "2"]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"oncoarena: simulate: n_samples: found 2, expected a whole number .*\n", error)


def test_import__planning_waits_for_no_library_of_genomics():
    script = (
        "import sys; from oncoarena import simulation\n"
        "for kind in simulation.KINDS: simulation.defaults(kind)\n"
        "print(*{'pysam', 'deflate', 'numba', 'scipy', 'sklearn', 'dask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
