"""Single fields of rows of variants: the kernels say what plain Python says."""

import re
from decimal import Decimal, InvalidOperation

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oncoarena.genomes import CHROMOSOMES
from oncoarena.kernels.variant_fields import (
    LAST_OF_MAF,
    LAST_OF_VCF,
    carries,
    chromosome_number,
    position_number,
)


def field(text: str) -> tuple[np.ndarray, int, int]:
    """A field between two others, so that reading beyond it would show."""
    raw = f"7\t{text}\t7".encode()
    return np.frombuffer(raw, np.uint8), 2, len(raw) - 2


def position_in_python(text: str) -> int:
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,10})?", text, re.ASCII):
        return -1
    try:
        value = Decimal(text)
    except InvalidOperation:
        return -1
    digits = re.sub(r"[eE].*|\.", "", text)
    exponent = abs(int(re.split("[eE]", text)[1])) if re.search("[eE]", text) else 0
    if text.isdigit() and len(text) <= 10:
        return int(text)
    if len(digits) > 15 or exponent > 15 or value > 10**15 or value != value.to_integral_value():
        return -1
    return int(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e+08", 100_000_000),
        ("1e5", 100_000),
        ("1.2345e+07", 12_345_000),
        ("1.23456789e+08", 123_456_789),
        ("46709983.0", 46_709_983),
        ("1000e-3", 1),
        ("1.5", -1),
        ("1e-1", -1),
        ("-1e5", -1),
        ("e5", -1),
        ("1e", -1),
        ("1e+", -1),
        ("1e5x", -1),
        ("1e99", -1),
        (".", -1),
        ("", -1),
    ],
)
def test_position_number__is_a_whole_number_however_written(text, value):
    assert position_number(*field(text)) == value == position_in_python(text)


@settings(deadline=None, max_examples=400)
@given(
    st.text("0123456789.eE+-x", max_size=14)
    | st.integers(0, 10**12).map(str)
    | st.floats(0, 1e9).map(repr)
    | st.integers(1, 10**9).map(lambda n: f"{n:e}")
    | st.integers(1, 10**9).map(lambda n: f"{n:.0e}")
)
@example("0e5")
def test_position_number__is_that_of_python(text):
    assert position_number(*field(text)) == position_in_python(text)


@pytest.mark.parametrize("prefix", ["", "chr", "CHR"])
def test_chromosome_number__of_maf_knows_x_and_y_by_number(prefix):
    names = [name[3:] for name in CHROMOSOMES]
    for last in (LAST_OF_VCF, LAST_OF_MAF):
        for number, name in enumerate(names):
            assert chromosome_number(*field(prefix + name), last) == number
        for name in ("0", "25", "26", "M", "MT", "99", "GL000220.1", ""):
            assert chromosome_number(*field(prefix + name), last) == -1
    for name, number in (("23", 22), ("24", 23)):
        assert chromosome_number(*field(prefix + name), LAST_OF_MAF) == number
        assert chromosome_number(*field(prefix + name), LAST_OF_VCF) == -1


def carries_in_python(text: str, allele: int, n_alleles: int) -> int:
    if not re.fullmatch(r"[/|]?(\d{1,10}|\.)([/|](\d{1,10}|\.))*", text, re.ASCII):
        return -1
    numbers = [int(part) for part in re.split(r"[/|]", text) if part not in ("", ".")]
    return -1 if any(number > n_alleles for number in numbers) else int(allele in numbers)


@settings(deadline=None, max_examples=400)
@given(st.text("012./|x", max_size=7), st.integers(1, 2))
@example("/0/1", 1)
@example("|0|1", 1)
@example("/1", 1)
@example("|.", 1)
@example("//1", 1)
@example("/", 1)
@example("||", 1)
def test_carries__a_genotype_says_what_a_regular_expression_finds(text, allele):
    assert carries(*field(text), allele, 2) == carries_in_python(text, allele, 2)
