"""Features that half precision has rounded: a step of its grid can be as wide as a class.

    form = half_format(h)              # torch.bfloat16, torch.float16 or None
    steps_in_deviation(h[y == 0], form)

Then a class lies on few points, and the gaps between these look like valleys between sub-populations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nclib.measures.arrays import float64_rows

FORMATS = (torch.bfloat16, torch.float16)  # the coarser first
# How often ``nclib.subpopulations`` split one Gaussian in bfloat16 between 1 and 2, of 16 draws (level 0.05;
# 300 and 2,000 samples, the larger number); in float32 2 of 160. Standard deviations in steps, and splits:
#   one axis                           4: 13    5: 13    6: 8     8: 0    16: 0
#   two axes, the wider one 64         1: 4     2: 3     4: 1     8: 0
#   two axes, the wider one 128        1: 1     2: 3     4: 2     8: 0
#   16 axes alike, of 24 draws       0.3: 24    1: 0     2: 0     4: 0     8: 0
#   each axis 1 / e of the last, from 16: 4    64: 4   128: 0   256: 0
FINE = 8  # steps in a standard deviation from which on rounding makes no valleys
REACH = 256  # steps in the largest standard deviation from which on narrow features are not seen beside it


def half_format(h: Tensor) -> torch.dtype | None:
    """The coarsest format of 16 bits that holds all of (N, D) features as they are, whatever their dtype."""
    for form in FORMATS:
        if all(bool((x.to(form).to(x.dtype) == x).all()) for _, x in float64_rows(h)):
            return form
    return None


def steps_in_deviation(x: np.ndarray, form: torch.dtype) -> float:
    """How finely a format resolves the spread of one class.

    Parameters
    ----------
    x : (n, D) float64 features of the class.
    form : of 16 bits, that holds them.

    Returns
    -------
    The smallest standard deviation of a feature in steps of the format at the feature's root mean square, of
    features that vary and whose step is not below the largest standard deviation over ``REACH``. Infinite
    where there is none. Below ``FINE`` what is found in the class can be rounding.
    """
    deviations = x.std(axis=0)  # (D,)
    limits = torch.finfo(form)
    sizes = np.maximum(np.sqrt(np.square(x).mean(axis=0)), limits.tiny)
    steps = limits.eps * 2.0 ** np.floor(np.log2(sizes))  # (D,)
    counted = (np.ptp(x, axis=0) > 0) & (steps * REACH > deviations.max())
    return float((deviations[counted] / steps[counted]).min(initial=np.inf))
