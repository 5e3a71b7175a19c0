"""Gene sets of the user's own: a GMT file, matched by gene symbol to the features of all blocks.

Format: https://docs.gsea-msigdb.org/#GSEA/Data_Formats/ (one set a line: name, description, genes; tab-separated).
"""

import io
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from oncoarena import store
from oncoarena.errors import Faults, InputError

# Four times the largest public collection.
MAX_BYTES = 2**28


@dataclass(frozen=True)
class GeneSets:
    """Sets of features: those whose genes a set names."""

    names: np.ndarray
    """(n_sets,) str."""
    membership: sparse.csr_array
    """(n_features, n_sets) float32: 1 over the root of the set's features, 0 outside of the set."""

    def means(self, x: np.ndarray) -> np.ndarray:
        """Return each set's mean feature times the root of their number, (n_samples, n_sets) float32.

        So that independent features of one variance give sets of that variance, whatever their size.
        """
        return np.ascontiguousarray(x @ self.membership, dtype=np.float32)


def read_gene_sets(uri: str) -> dict[str, tuple[str, ...]]:
    """Read a GMT file: name of a set to its gene symbols, each once.

    Raises InputError for what is no GMT file, naming the lines.
    """
    with store.open_input(uri) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{uri}: more than {MAX_BYTES >> 20} MiB; expected a GMT file of gene sets")
    if content.startswith(b"\x1f\x8b"):
        raise InputError(f"{uri}: is compressed by gzip; expected plain text: unpack it with gunzip")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{uri}: byte {error.start} is not UTF-8; expected a GMT file, which is plain text"
        ) from None
    sets: dict[str, tuple[str, ...]] = {}
    faults = Faults("line")
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        name, *rest = (column.strip() for column in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        where = f"{uri}: line {number}"
        if not genes:
            faults.add(f"{where}: found {len(rest) + 1} columns; expected a name, a description and genes")
        elif not name:
            faults.add(f"{where}: the first column is empty; expected the name of a set")
        elif name in sets:
            faults.add(f"{where}: set {name} was there before; give every set one line")
        else:
            sets[name] = genes
    faults.tell()
    if not sets:
        raise InputError(f"{uri}: no line; expected one gene set a line")
    return sets


def match_gene_sets(uri: str, genes: np.ndarray) -> GeneSets:
    """Read a GMT file and find the features of each set; sets with fewer than two of them are left out.

    Parameters: ``genes`` (n_features,) symbols, "" where a feature has none; case matters.
    Raises InputError if no set is left, besides what ``read_gene_sets`` raises.
    """
    sets = read_gene_sets(uri)
    features_of: dict[str, list[int]] = {}
    for feature, gene in enumerate(genes):
        if gene:
            features_of.setdefault(str(gene), []).append(feature)
    names, members = [], []
    for name, of_set in sets.items():
        found = [feature for gene in of_set for feature in features_of.get(gene, ())]
        if len(found) > 1:
            names.append(name)
            members.append(found)
    if not names:
        known = f"such as {', '.join(list(features_of)[:3])}" if features_of else "but no feature has any"
        named = ", ".join(next(iter(sets.values()))[:3])
        raise InputError(
            f"{uri}: none of its {len(sets)} sets names the genes of two features; its first set names {named}; "
            f"expected gene symbols of the blocks, {known}"
        )
    sizes = [len(found) for found in members]
    weights = np.repeat(1.0 / np.sqrt(sizes), sizes).astype(np.float32)
    places = np.concatenate(members), np.repeat(np.arange(len(names)), sizes)
    return GeneSets(np.array(names), sparse.csr_array((weights, places), shape=(len(genes), len(names))))
