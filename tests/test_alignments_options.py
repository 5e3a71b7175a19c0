"""Options of the assay alignments, and what importing it costs."""

import subprocess
import sys

import pytest

from oncoarena.assays.alignments import BLOCKS, FILES, Options
from oncoarena.errors import InputError


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"genome": "hg37"}, "genome: found 'hg37', expected one of hg19, hg38, t2t"),
        ({"chromosomes": "chr1"}, "chromosomes: found 'chr1', expected one of autosomes, all"),
        ({"coverage_bp": 10}, "coverage_bp: found 10, expected a whole number from 1000 to 100000000"),
        ({"coverage_bp": 1e5}, "coverage_bp: found 100000.0"),
        ({"ratio_bp": "5000000"}, "ratio_bp: found '5000000'"),
        ({"min_mapq": True}, "min_mapq: found True"),
        ({"min_mapq": 255}, "expected a whole number from 0 to 254"),
        ({"max_fragment_bp": 150}, "max_fragment_bp: found 150, expected a whole number from 220"),
        ({"required_flags": -1}, "required_flags: found -1"),
        ({"required_flags": 1027}, "required_flags 1027 and excluded_flags 3852 share the flag 1024"),
        ({"exclude_gaps": "yes"}, "exclude_gaps: found 'yes', expected true or false"),
        ({"exclude_regions": ""}, "exclude_regions: found '', expected a path or URI"),
        ({"reference": 5}, "reference: found 5, expected a path or URI"),
        ({"part_mb": 0}, "part_mb: found 0"),
    ],
)
def test_options__illegal_value_is_refused_with_the_legal_ones(keys, said):
    with pytest.raises(InputError) as refusal:
        Options(**keys)
    assert said in str(refusal.value)


def test_options__files_are_options():
    assert set(FILES) <= set(Options.__dataclass_fields__)


def test_blocks__each_is_described_with_its_source():
    for name, spec in BLOCKS.items():
        assert spec.name == name
        assert spec.dims[0] == "sample"
        assert spec.unit
        assert spec.description.endswith(".")
        assert spec.reference.startswith("doi:10.")


def test_import__loads_nothing_heavy():
    code = (
        "import sys, oncoarena.assays.alignments as a; a.Options(genome='t2t', reference='x.fa'); "
        "print([name for name in ('pysam', 'numba', 'scipy', 'pyarrow.csv') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
