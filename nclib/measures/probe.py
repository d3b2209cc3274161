"""Linear probes: how much of a labelling a linear classifier can read off fixed features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from nclib.measures.arrays import ArrayLike, as_features, as_labels, as_samples

# Spread, relative to the widest direction, below which float32 features hold rounding, also those that were
# converted to float64 since. Of float64 features the covariance loses what is below (D eps)^0.5, 3e-7 for
# D = 512.
NOISE = 1e-6


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted probe; see ``linear_probe``.

    Attributes
    ----------
    origin : (D,) mean of the features that it was fitted on.
    basis : (D, R) principal directions, each over the standard deviation along it.
    classifier : logistic regression on (h - origin) @ basis.
    """

    origin: Tensor
    basis: Tensor
    classifier: LogisticRegression

    def predict(self, h: ArrayLike) -> np.ndarray:
        """Labels (N,) int64 of features (N, D)."""
        h = as_features(h)
        if h.shape[1] != len(self.origin):
            raise ValueError(f"features must have dimension {len(self.origin)} here; got {h.shape[1]}")
        return self.classifier.predict(_whitened(h, self.origin, self.basis))

    def accuracy(self, h: ArrayLike, y: ArrayLike) -> float:
        """Share of the features (N, D) whose label (N,) is predicted."""
        found = self.predict(h)
        return float(np.mean(found == as_labels(y, len(found)).cpu().numpy()))

    def per_class_accuracy(self, h: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Accuracy within every class of ``y``, (C,) float64, C the largest label plus one.

        Not a number for a class without samples.
        """
        found = self.predict(h)
        y = as_labels(y, len(found)).cpu().numpy()
        correct = found == y
        counts = np.bincount(y)
        hits = np.bincount(y, weights=correct)
        return np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def linear_probe(h: ArrayLike, y: ArrayLike) -> LinearProbe:
    """Fit a multinomial logistic regression from features to labels.

    Parameters
    ----------
    h : (N, D) features.
    y : (N,) integer labels.

    Returns
    -------
    LinearProbe with ``predict``, ``accuracy`` and ``per_class_accuracy``.

    Raises
    ------
    ValueError : features or labels that are refused, features that are all equal, or a single class.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning : the solver stopped before it was done.

    Notes
    -----
    Features are whitened in float64 first: rotated to principal directions, each scaled to standard
    deviation one. In collapsed features the fine structure is a thousandth of the coarse one; on an
    equal footing an L2 penalty (C = 1) does not hide it and L-BFGS finds it in some dozen steps.
    Directions in which the standard deviation is below 1e-6 of the widest are left out, whatever the
    dtype: in float32 they are rounding, also after a conversion to float64.
    The fit has no random part, hence no seed.
    """
    h, y, _ = as_samples(h, y)
    if (y == y[0]).all():
        raise ValueError(f"a probe needs two classes; all {len(y)} labels are {int(y[0])}")
    origin, basis = _whitening(h)
    classifier = LogisticRegression(max_iter=2000)
    with warnings.catch_warnings():  # few samples a class are no sign of a regression here
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        classifier.fit(_whitened(h, origin, basis), y.cpu().numpy())
    return LinearProbe(origin, basis, classifier)


def _whitening(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and principal directions over their standard deviation (D, R), all float64."""
    first = h[0].to(torch.float64)
    centred = h.to(torch.float64) - first  # where samples are equal zero, exactly
    origin = first + centred.mean(dim=0)
    centred -= centred.mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(h))  # (D,), (D, D)
    kept = variances > NOISE**2 * variances[-1]
    if not kept.any():
        raise ValueError(f"a probe needs features that differ; all {len(h)} are equal")
    return origin, directions[:, kept] / variances[kept].sqrt()


def _whitened(h: Tensor, origin: Tensor, basis: Tensor) -> np.ndarray:
    return ((h.to(origin) - origin) @ basis).cpu().numpy()  # (N, R)
