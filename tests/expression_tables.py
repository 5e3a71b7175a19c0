"""One small cohort as text and Parquet, and how its tables are read, for tests of the assay expression."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from oncoarena.assays.expression import Options, read_matrix, read_object
from oncoarena.errors import InputError

SAMPLES = ["S1", "S2", "S3"]
GENES = ["TP53", "MYC", "KRAS", "EGFR"]
VALUES = np.array([[1.5, 2.0, 0.0, 4.0], [5.0, 6.25, 7.0, 8.0], [9.0, 1e-3, 11.0, 12.5]])  # samples x genes


def frame(orientation: str = "genes_x_samples") -> pd.DataFrame:
    table = pd.DataFrame(VALUES, index=SAMPLES, columns=GENES)
    return table.T if orientation == "genes_x_samples" else table


def text(orientation: str = "genes_x_samples", separator: str = "\t") -> str:
    return frame(orientation).to_csv(sep=separator, index_label="id")


def parquet(table: pd.DataFrame, **keywords) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pa.Table.from_pandas(table), buffer, write_page_checksum=True, store_schema=True, **keywords
    )
    return buffer.getvalue()


def read(content: str | bytes, samples=SAMPLES, annotation=None, **keys):
    raw = content.encode() if isinstance(content, str) else content
    return read_matrix(io.BytesIO(raw), "cohort.tsv", samples, Options(**keys), annotation)["expression"]


def read_one(content: str | bytes, annotation=None, **keys):
    raw = content.encode() if isinstance(content, str) else content
    return read_object(io.BytesIO(raw), "s1.tsv", Options(**keys), sample_id="s1", annotation=annotation)[
        "expression"
    ]


def assert_is_the_cohort(found) -> None:
    assert list(found.features["id"]) == GENES
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, VALUES.astype(np.float32))


def assert_refused(content: str | bytes, *said: str, read=read, **keys) -> None:
    with pytest.raises(InputError) as refusal:
        read(content, **keys)
    message = str(refusal.value)
    assert "\n" not in message
    for words in said:
        assert words in message


ANNOTATION = pd.DataFrame(
    {
        "id": ["MYC", "TP53", "BRCA1", "EGFR"],
        "chrom": ["chr8", "chr17", "chr17", ""],
        "start": ["127735433", "7661778", "43044294", "-1"],
        "end": ["127742951", "7687550", "43125364", ""],
        "gene": ["MYC", "TP53", "BRCA1", "EGFR"],
    }
)
