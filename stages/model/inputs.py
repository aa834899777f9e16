"""What the network is fed: the features and, of each number, how it bends.

A public map, fitted on nothing: it is stored with the model, and costs no privacy.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

# Of numpy or of another library that follows the Array API standard.
Array = Any

# How loudly bends are told, beside the number itself: louder, they are learned sooner, and carry
# more noise where a straight line would have done.
BEND_SCALE = 0.6


@dataclass(frozen=True)
class Pieces:
    """Numbers told in pieces, so that a nearly linear model can learn curves and thresholds.

    Of a number in [-1, 1], K ramps each rise over one of K equal parts of that range (the
    piecewise-linear encoding of Gorishniy et al. 2022, "On Embeddings for Numerical Features in
    Tabular Deep Learning", but over equal parts, because quantiles would be learned from rows).
    From each the straight line that is nearest to it over the range is taken off: the number itself
    is among the features already, and what is told twice is clipped and covered with noise twice.

    Attributes:
        numbers: positions of the numbers among the features.
        count: K, or 0 where every number is told as it is.
    """

    numbers: tuple[int, ...] = ()
    count: int = 0

    def width(self, features: int) -> int:
        """Return the number of the network's inputs, from that of the features."""
        return features + self.count * len(self.numbers)

    def apply(self, features: Array) -> Array:
        """Return the inputs (…, width) of features (…, features): these, then each number's."""
        if not self.count or not self.numbers:
            return features
        xp = array_namespace(features)
        kind = {"dtype": features.dtype, "device": features.device}
        columns = xp.asarray(self.numbers, device=features.device)
        numbers = xp.take(features, columns, axis=-1)[..., None]
        places = xp.arange(self.count, **kind)
        means, slopes = (xp.asarray(part, **kind) for part in lines(self.count))
        ramps = xp.clip((numbers + 1) * (self.count / 2) - places, 0, 1)
        bends = (2 * ramps - 1) / math.sqrt(self.count) - means - slopes * numbers
        flat = xp.reshape(BEND_SCALE * bends, (*features.shape[:-1], -1))
        return xp.concat([features, flat], axis=-1)


AS_THEY_ARE = Pieces()


def lines(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and slope of the line nearest to each ramp, over [-1, 1], in least squares.

    Over u uniform in [0, K], where ramp k is 0 up to k, rises to 1 at k + 1 and stays there, its
    mean is (K - k - ½) / K and its mean product with u is (⅓ + k/2 + (K² - (k + 1)²) / 2) / K.
    """
    k = np.arange(count)
    mean = (count - k - 0.5) / count
    product = (1 / 3 + k / 2 + (count**2 - (k + 1) ** 2) / 2) / count
    slope = (product - mean * count / 2) * 12 / count**2  # in u, whose variance is K² / 12
    scale = 2 / math.sqrt(count)
    return scale * (mean - 0.5), scale * slope * count / 2
