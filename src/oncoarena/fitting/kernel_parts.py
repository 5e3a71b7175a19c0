"""A part of a kernel model: one block seen in one way, and what its similarities add to the logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from oncoarena.fitting.kernel_attributions import kernel_contributions
from oncoarena.fitting.shared_factors import SharedFactors
from oncoarena.fitting.views import View
from oncoarena.kernels.gram import from_linear, gram, squared_lengths


@dataclass(frozen=True)
class Part:
    """One block seen in one way, with its shared factors or without: a sum over kernels of similarity x coefficient.

    ``prepared`` samples are those of ``View.prepare``, (n, n_features) float32; ``compared`` are the training samples,
    or the landmarks, prepared.
    """

    block: str
    view: View
    gamma: float
    """Of the Gaussian kernel, per unit of squared distance."""
    factors: SharedFactors | None
    """What is taken out of the samples before they are compared."""
    coefficients: dict[str, np.ndarray]
    """Kernel -> (n_compared, n_classes) what each sample compared with adds to the logits."""

    @property
    def scaling(self) -> dict[str, np.ndarray]:
        """What ``kernels.gram`` centres and scales prepared samples with."""
        return {"centre": self.view.mean, "scale": self.view.factor}

    def similarities(
        self, prepared: np.ndarray, compared: np.ndarray, kinds: Sequence[str], device: str
    ) -> Iterator[np.ndarray]:
        """Give each kernel (n, n_compared) in turn."""
        if self.factors is None:
            return iter(
                gram(prepared, compared, kinds=kinds, gamma=self.gamma, device=device, **self.scaling)
            )
        (linear,) = gram(prepared, compared, device=device, **self.scaling)
        squares = (squared_lengths(samples, **self.scaling) for samples in (prepared, compared))
        without = self.factors.remove(linear, *squares)
        return (from_linear(*without, kind, self.gamma) for kind in kinds)

    def add_coefficients(self, kernel: str, coefficients: np.ndarray) -> None:
        """Add to the coefficients of a kernel."""
        self.coefficients[kernel] = self.coefficients.get(kernel, 0.0) + coefficients

    def add_logits(self, logits: np.ndarray, prepared: np.ndarray, compared: np.ndarray, device: str) -> None:
        """Add to ``logits`` (n, n_classes) what the similarities give."""
        kernels = self.similarities(prepared, compared, tuple(self.coefficients), device)
        for kernel, coefficients in zip(kernels, self.coefficients.values(), strict=True):
            logits += kernel @ coefficients

    def contributions(
        self, prepared: np.ndarray, compared: np.ndarray, of_score: dict[str, np.ndarray], device: str
    ) -> np.ndarray:
        """Attribute a sum over kernels of similarity x ``of_score`` (n_compared,) to features (n, n_features)."""
        return kernel_contributions(
            *(prepared, compared, of_score),
            gamma=self.gamma,
            factors=self.factors,
            device=device,
            **self.scaling,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what ``from_arrays`` needs but the block's name, for an .npz file."""
        arrays = {f"view.{name}": array for name, array in self.view.to_arrays().items()}
        arrays |= {f"kernel.{name}": array for name, array in self.coefficients.items()}
        if self.factors is not None:
            arrays |= {"factors.projection": self.factors.projection, "factors.amounts": self.factors.amounts}
        return arrays | {"gamma": np.array(self.gamma)}

    @classmethod
    def from_arrays(cls, block: str, arrays: dict[str, np.ndarray]) -> Self:
        """Rebuild a part from ``to_arrays``."""

        def named(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

        factors = named("factors.")
        return cls(
            block,
            View.from_arrays(named("view.")),
            float(arrays["gamma"]),
            SharedFactors(**factors) if factors else None,
            named("kernel."),
        )
