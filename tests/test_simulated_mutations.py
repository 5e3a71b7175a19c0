"""Simulated mutations: spectra, drivers and density are those that were asked for, in MAF and in VCF."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pysam
import pytest

from oncoarena.simulation import mutations
from oncoarena.simulation.counts import draw_transcriptome
from oncoarena.simulation.landscape import landscape
from test_simulated_multiomic import pyrimidine_class


@pytest.fixture(scope="module")
def common():
    rng = np.random.default_rng(0)
    genes = draw_transcriptome(rng, landscape(), 300).genes
    return mutations.draw_mutability(rng, landscape(), genes)


def profile_of(**dimensions) -> np.ndarray:
    profile = np.zeros(mutations.N_LATENT)
    profile[7 : 7 + mutations.N_DRIVERS] = -5
    for place, value in dimensions.items():
        profile[int(place.removeprefix("d"))] = value
    return profile


def draw(common, profile, n_mutations, seed=0) -> pd.DataFrame:
    return mutations.draw_mutations(np.random.default_rng(seed), landscape(), common, profile, n_mutations)


def class_counts(rows) -> np.ndarray:
    """Count (96,) classes in the order of ``mutation_types`` from rows (context, ref, alt)."""
    types = mutations.mutation_types()
    names = types["five_prime"] + "[" + types["substitution"] + "]" + types["three_prime"]
    found = pd.Series([pyrimidine_class(*row) for row in rows]).value_counts()
    assert set(found.index) <= set(names)
    return found.reindex(names, fill_value=0).to_numpy()


def test_spectrum__is_the_mixture_of_signatures_on_both_strands(common):
    profile = profile_of(d2=2.0, d4=-1.0)
    table = draw(common, profile, 60_000)
    snv = table[table["alt"] != "-"]
    counts = class_counts(zip(snv["context"], snv["ref"], snv["alt"], strict=True))
    weights = np.exp(common.exposures + 0.7 * profile[1:7])
    expected = len(snv) * weights @ mutations.signatures() / weights.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 95 + 4 * np.sqrt(2 * 95)
    assert snv["ref"].isin(["A", "G"]).mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(mutations.signatures().sum(axis=1), 1)


def test_burden__follows_the_profile(common):
    few, many = (np.mean([len(draw(common, profile_of(d0=x), 400, s)) for s in range(20)]) for x in (-1, 1))
    assert many / few == pytest.approx(np.e, rel=0.1)


def test_density__follows_the_tracks(common):
    genome = landscape()
    table = draw(common, profile_of(**{f"d{mutations.N_LATENT - 1}": 3.0}), 80_000)
    first_bin = dict(zip(genome.chromosomes, np.searchsorted(genome.chrom, range(24)), strict=True))
    counts = np.bincount(table["chrom"].map(first_bin) + table["pos"] // 100_000, minlength=len(genome.start))
    usable = genome.sequenced & (genome.chrom < genome.chromosomes.index("chrY"))
    assert counts[~usable].sum() <= 5  # drivers and passengers lie in genes, of which none is there
    track = common.density + 3.0 * common.tracks[-1]
    top, bottom = track > np.quantile(track[usable], 0.9), track < np.quantile(track[usable], 0.1)
    found = counts[top & usable].mean() / counts[bottom & usable].mean()
    expected = np.exp(track[top & usable]).mean() / np.exp(track[bottom & usable]).mean()
    assert found == pytest.approx(expected, rel=0.1)


def test_drivers__are_mutated_where_the_profile_passes_their_threshold(common):
    damaging = ["Missense_Mutation", "Nonsense_Mutation", "Frame_Shift_Del"]
    for driver in range(mutations.N_DRIVERS):
        gene = common.genes["gene"].iloc[common.drivers[driver]]
        for step, is_hit in ((0.01, True), (-0.01, False)):
            profile = profile_of(**{f"d{7 + driver}": common.driver_threshold[driver] + step})
            table = draw(common, profile, 20)
            assert (gene in set(table.loc[table["effect"].isin(damaging), "gene"])) == is_hit


def test_table__is_in_genome_order_without_two_at_one_place(common):
    table = draw(common, profile_of(), 20_000)
    keys = table["chrom"].map(landscape().chromosomes.index) * 10**9 + table["pos"]
    assert (np.diff(keys) > 0).all()
    assert (table["context"].str[5] == table["ref"]).all()
    assert (table["ref"] != table["alt"]).all()
    assert (table["alt"] == "-").mean() == pytest.approx(0.05, abs=0.01)
    genes = common.genes.set_index("gene")
    inside = table[table["gene"] != ""]
    place = genes.loc[inside["gene"]]
    assert (place["chrom"].to_numpy() == inside["chrom"].to_numpy()).all()
    assert (place["start"].to_numpy() <= inside["pos"].to_numpy()).all()
    assert (inside["pos"].to_numpy() < place["end"].to_numpy()).all()


def test_vcf__holds_what_the_maf_holds(common, tmp_path):
    table = draw(common, profile_of(d7=5.0), 3_000)
    mutations.write_vcf(tmp_path / "s1.vcf.gz", landscape(), "s1", table)
    mutations.write_maf(tmp_path / "v.maf.gz", [mutations.maf_table("s1", table)])
    maf = pd.read_csv(tmp_path / "v.maf.gz", sep="\t", comment="#")
    assert (maf["Tumor_Sample_Barcode"] == "s1").all()
    assert len(maf) == table["passed"].sum() < len(table)
    rows = []
    with pysam.VariantFile(str(tmp_path / "s1.vcf.gz")) as file:
        assert list(file.header.samples) == ["s1"]
        for record in file:
            call = record.samples["s1"]
            assert call["GT"] == (0, 1)
            assert sum(call["AD"]) == call["DP"]
            if list(record.filter) != ["PASS"]:
                continue
            (alt,) = record.alts
            effect, _, gene = record.info["ANN"][0].split("|")[1:4]
            lost = len(record.ref) == 2
            assert not lost or record.ref[0] == alt
            rows.append(
                {
                    "Chromosome": record.chrom,
                    "Start_Position": record.pos + lost,
                    "Reference_Allele": record.ref[-1],
                    "Tumor_Seq_Allele2": "-" if lost else alt,
                    "three": record.info["CONTEXT"],
                    "Hugo_Symbol": gene or "Unknown",
                    "t_alt_count": call["AD"][1],
                    "effect": effect,
                }
            )
    found = pd.DataFrame(rows)
    assert (found.pop("three") == maf["CONTEXT"].str[4:7]).all()
    names = {
        "Missense_Mutation": "missense_variant",
        "Nonsense_Mutation": "stop_gained",
        "Frame_Shift_Del": "frameshift_variant",
        "Silent": "synonymous_variant",
        "Intron": "intron_variant",
        "IGR": "intergenic_region",
    }
    assert (found.pop("effect") == maf["Variant_Classification"].map(names)).all()
    pd.testing.assert_frame_equal(found, maf[found.columns], check_dtype=False)


def test_maf__bytes_do_not_depend_on_who_writes(common, tmp_path):
    table = mutations.maf_table("s1", draw(common, profile_of(), 50))
    assert isinstance(table, pa.Table)
    for name in ("a", "b"):
        mutations.write_maf(tmp_path / f"{name}.maf.gz", [table])
    assert (tmp_path / "a.maf.gz").read_bytes() == (tmp_path / "b.maf.gz").read_bytes()
