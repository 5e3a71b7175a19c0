"""Worlds: where a planted signal lies, and how far it puts the classes apart."""

import numpy as np

WORLDS = ("diffuse", "local", "sparse", "cluster")
_PARTS_A_CLASS = 3  # single genes, or runs of genes
_RUN_GENES = 25
_TRIANGLE = ((1.0, 0.0), (-0.5, 0.75**0.5), (-0.5, -(0.75**0.5)))
"""Corners, at distance 1 from their mean."""


def draw_prototypes(
    rng: np.random.Generator,
    world: str,
    strength: float,
    n_classes: int,
    chromosomes: np.ndarray,
    loadings: np.ndarray,
) -> np.ndarray:
    """Draw the centres of the classes, shaped by the world and as far apart as ``strength`` says.

    Parameters: ``world`` see ``expression.simulate_expression``; ``chromosomes`` (n_genes,) names, sorted by place;
    ``loadings`` (n_genes, n_factors) of the noise.
    Returns (n_classes, n_prototypes, n_genes) float64, in units of the noise.
    """
    n_genes = len(chromosomes)
    if world == "cluster":
        axes = equidistant(rng.normal(size=(n_genes, 2 * n_classes)), loadings)
        planes = axes.T.reshape(n_classes, 2, n_genes)
        return _cluster_radius(strength) * np.einsum("pa,kag->kpg", _TRIANGLE, planes)
    if world == "diffuse":
        shapes = rng.normal(size=(n_genes, n_classes))
    else:
        shapes = np.zeros((n_genes, n_classes))
        for part, members in enumerate(_parts(rng, world, n_classes, chromosomes)):
            shapes[members, part % n_classes] = rng.choice([-1.0, 1.0])
    return (strength / np.sqrt(2) * equidistant(shapes, loadings)).T[:, None, :]


def _parts(rng: np.random.Generator, world: str, n_classes: int, chromosomes: np.ndarray) -> list[np.ndarray]:
    """Choose genes that shift together: single genes (sparse) or runs within a chromosome (local)."""
    n_genes = len(chromosomes)
    n_parts = n_classes * min(_PARTS_A_CLASS, n_genes // (2 * n_classes))
    length = 1 if world == "sparse" else int(np.clip(n_genes // (4 * n_parts), 1, _RUN_GENES))
    starts = np.arange(0, n_genes - length + 1, length)
    starts = starts[chromosomes[starts] == chromosomes[starts + length - 1]]
    return [np.arange(start, start + length) for start in rng.choice(starts, n_parts, replace=False)]


def equidistant(shapes: np.ndarray, loadings: np.ndarray) -> np.ndarray:
    """Make the columns of (n_genes, k) shapes orthonormal in the metric of the noise's inverse covariance.

    Symmetric (Loewdin) orthonormalisation: the columns stay as close to the shapes as can be, and outside
    the genes of the shapes they stay 0.
    """
    n_factors = loadings.shape[1]
    inner = np.linalg.solve(np.eye(n_factors) + loadings.T @ loadings, loadings.T @ shapes)
    gram = shapes.T @ (shapes - loadings @ inner)  # shapes' @ inverse covariance @ shapes (Woodbury)
    eigenvalues, vectors = np.linalg.eigh(gram)
    return shapes @ (vectors / np.sqrt(eigenvalues)) @ vectors.T


def _cluster_radius(strength: float) -> float:
    """Find how far prototypes lie from the common mean for the oracle's AUROC to be Phi(strength / sqrt(2))."""
    if strength == 0:
        return 0.0
    # Imported here: planning reads the simulator's signature, and SciPy takes longer than all the rest.
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    wanted = log_ndtr(-strength / np.sqrt(2))
    return brentq(lambda radius: np.log(_cluster_error(radius)) - wanted, 0.0, strength + 2, xtol=1e-6)


def _cluster_error(radius: float) -> float:
    """Compute 1 - AUROC of the oracle for two classes, each a triangle of prototypes in a plane of its own.

    Its evidence for class j over k is h(profile in j's plane) - h(profile in k's plane), where h is the log of
    the mean likelihood ratio of the three prototypes to the common mean. The distributions of h, for
    a sample of the class and for another one, are tabulated on a grid.
    """
    grid = np.linspace(-9, 9, 241)
    x, y = np.meshgrid(grid, grid)
    weights = np.exp(-(x**2 + y**2) / 2).ravel()
    weights /= weights.sum()
    evidence = []
    for centre in (radius, 0.0):
        likelihood = [radius * (cosine * (x + centre) + sine * y) for cosine, sine in _TRIANGLE]
        evidence.append(np.logaddexp.reduce(likelihood).ravel())
    edges = np.linspace(min(map(np.min, evidence)), max(map(np.max, evidence)) + 1e-9, 2001)
    own, other = (np.histogram(h, edges, weights=weights)[0] for h in evidence)
    # One sample of each class: wrong where the own planes of both show less than the other planes.
    own, other = np.convolve(own, own), np.convolve(other, other)
    below = np.concatenate([[0.0], np.cumsum(own)[:-1]])
    return float(np.sum(other * (below + own / 2)))


def draw_profiles(
    rng: np.random.Generator, labels: np.ndarray, world: str, strength: float, chromosomes: np.ndarray
) -> np.ndarray:
    """Draw a profile for each patient: the centre of its class, and noise of which a part is shared by features.

    ``strength`` is the d' of an oracle that sees the profiles, as in ``expression.simulate_expression``.
    Parameters: ``labels`` (n_patients,) codes; ``chromosomes`` (n_features,) names, sorted by place.
    Returns (n_patients, n_features) float64, in units of each feature's own noise.
    """
    n_features = len(chromosomes)
    loadings = rng.normal(0, 0.4, (n_features, min(5, n_features)))
    n_classes = int(labels.max()) + 1
    prototypes = draw_prototypes(rng, world, strength, n_classes, chromosomes, loadings)
    centres = prototypes[labels, rng.integers(prototypes.shape[1], size=len(labels))]
    shared = rng.standard_normal((len(labels), loadings.shape[1])) @ loadings.T
    return centres + shared + rng.standard_normal((len(labels), n_features))
