"""Gaussian smoothing along the genome, and views of a cohort that see it smoothed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from keras import ops

from oncoarena.cohort import Cohort
from oncoarena.fitting.grids import Grid
from oncoarena.fitting.tiles import row_tiles
from oncoarena.fitting.tracks import mirrored_places
from oncoarena.fitting.views import JoinedView

# Places that one step of the convolution smooths together: a product of matrices is five to ten times as fast as a
# depthwise convolution of one channel.
STRIDE = 64
# Values that are brought onto a grid and smoothed at once (4 MiB), of which there are several copies.
STEP_VALUES = 2**20


def smoothing_radius(sigma: float) -> int:
    """Return how many neighbours on each side a scale looks at."""
    return int(4.0 * sigma + 0.5)


def smooth(x: np.ndarray, bounds: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth rows by a Gaussian cut at 4 sigma, within each chromosome, mirrored at its ends.

    Parameters: ``x`` (n_samples, n_places) float32; ``bounds`` of the chromosomes; ``sigma`` in places (0: as it is).
    Returns an array like ``x``. The map is symmetric: what a place gives is smoothed like what it gets.
    """
    radius = smoothing_radius(sigma)
    if radius == 0 or x.size == 0:
        return x
    gaussian = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.zeros((2 * radius + STRIDE, 1, STRIDE), dtype=np.float32)
    for step in range(STRIDE):
        kernel[step : step + 2 * radius + 1, 0, step] = gaussian / gaussian.sum()
    places, is_own = mirrored_places(bounds, radius)
    # What the convolution returns is shorter by the radius at both ends.
    own = np.flatnonzero(is_own) - radius
    places = np.pad(places, (0, -(len(places) - 2 * radius) % STRIDE), mode="edge")
    kernel, out = ops.convert_to_tensor(kernel), np.empty_like(x)
    for rows in row_tiles(len(x), len(places)):
        padded = ops.convert_to_tensor(x[rows][:, places, None])
        smoothed = ops.convert_to_numpy(ops.conv(padded, kernel, strides=STRIDE))
        out[rows] = smoothed.reshape(len(smoothed), -1)[:, own]
    return out


@dataclass(frozen=True)
class SmoothedView:
    """A joined view on a grid of one channel, smoothed there; of any number of samples, like the view itself."""

    view: JoinedView
    grid: Grid
    sigma: float

    @property
    def n_features(self) -> int:
        """How many places it sees."""
        return self.grid.n_places

    def of(self, x: np.ndarray) -> np.ndarray:
        """Return smoothed places (n_samples, n_places) of the transformed view (n_samples, n_features)."""
        out = np.empty((len(x), self.n_features), dtype=np.float32)
        step = max(1, STEP_VALUES // max(x.shape[1], 1))
        for first in range(0, len(x), step):
            on_grid = self.grid.combine(x[first : first + step])[:, :, 0]
            out[first : first + step] = smooth(on_grid, self.grid.bounds, self.sigma)
        return out

    def spread(self, of_places: np.ndarray) -> np.ndarray:
        """Turn weights of smoothed places (n_samples, n_places) into those of the view's features."""
        return self.grid.spread(smooth(of_places, self.grid.bounds, self.sigma)[:, :, None])

    def transform(self, cohort: Cohort) -> np.ndarray:
        """Return smoothed places of a cohort (n_samples, n_places) float32."""
        out = np.empty((len(cohort), self.n_features), dtype=np.float32)
        for rows, x in self.tiles(cohort):
            out[rows] = x
        return out

    def tiles(self, cohort: Cohort) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and smoothed places (n_rows, n_places) of some neighbouring samples after the other."""
        for rows, x in self.view.tiles(cohort):
            yield rows, self.of(x)
