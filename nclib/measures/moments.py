"""Class moments: the sufficient statistics of every measure of collapse and of fine structure.

    m = ClassMoments(num_classes, dim)
    for h, y in batches:
        m.update(h, y)
    m.merge(from_another_machine).summary()

``ClassMoments`` accumulates one pass over a stream and merges; ``Moments`` is the small summary that
a run keeps for every epoch: the C x D class means, and the within-class covariance in the coordinates
of these means (C x C) or of the features (D x D), whichever is smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

from nclib.measures.arrays import (
    MOST_CLASSES,
    NUMBERED,
    SPARSE,
    ArrayLike,
    as_labels,
    as_samples,
    as_whole,
    float64_rows,
    of_parts,
)

MOST_NUMBERS = 2**33  # that an accumulator may hold: 64 GB
GRAM_COLUMNS = 256  # narrower blocks skip more of a symmetric product and multiply less efficiently


@dataclass(frozen=True, eq=False)
class Moments:
    """What remains of N features in C classes; all float64, counts int64.

    Attributes
    ----------
    counts : (C,) samples per class, none of them zero.
    means : (C, D) class means, in feature units.
    scatter : (C,) biased within-class scatter, the class mean of ||h - mu_c||^2.
    projected : the pooled within-class covariance Sigma_W, averaged over all samples. Where C <= D
        (C, C), M Sigma_W M^T, in the coordinates of M, the class means minus their unweighted
        mean; where C > D (D, D), Sigma_W itself.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor
    projected: Tensor

    @classmethod
    def of(cls, h: ArrayLike, y: ArrayLike, num_classes: int | None = None) -> Moments:
        """Moments of (N, D) features with (N,) labels in [0, C), in two passes, accumulated in float64.

        Raises
        ------
        ValueError : features or labels that ``as_samples`` refuses, or a class without samples.

        Notes
        -----
        With Z the features minus their class means, M Sigma_W M^T = (Z M^T)^T (Z M^T) / N takes
        2 N D C + N C^2 operations (of Gram matrices half is enough), a few megabytes and no D x D
        matrix. Sigma_W = Z^T Z / N takes N D^2: it comes first where that is less, C > 0.41 D.
        Subtracting the means before squaring keeps every digit of a scatter that is tiny beside
        the distance from the origin.
        """
        return cls.of_checked(*as_samples(h, y, num_classes))

    @classmethod
    def of_checked(cls, h: Tensor, y: Tensor, num_classes: int) -> Moments:
        """``of`` what ``as_samples`` has returned: a look at all features is saved."""
        if num_classes > max(SPARSE, len(h)):  # before memory is taken for them
            raise ValueError(f"each of {num_classes} classes needs a sample; there are {len(h)} samples")
        counts, means = class_means(h, y, num_classes)
        require_samples(counts)
        dim = h.shape[1]
        full = 2 * dim * num_classes + num_classes**2 > dim**2
        squares, gram = residual_sums(h, y, means, None if full else centred(means))
        covariance = gram.div_(len(h))
        return cls(counts, means, squares / counts, project(covariance, means) if full else covariance)

    def grouped(self, group: ArrayLike) -> Moments:
        """Moments of the coarse classes that join these, exactly, without a look at the features.

        Parameters
        ----------
        group : (C,) coarse label of every class; every label in [0, G) must occur.

        Returns
        -------
        Moments of G classes.

        Raises
        ------
        ValueError : labels that are refused, not one a class, or a group without a class.

        Notes
        -----
        Coarse means are A mu, A the (G, C) shares of classes in groups. The coarse within-class
        covariance adds to Sigma_W the scatter of the gaps d_c = mu_c - mu_group(c),
        sum_c (n_c / N) d_c d_c^T. Rows of B = A - mean_g A sum to zero, so the centred coarse means
        are B M, and where Sigma_W is known in the coordinates of M, that is C <= D, it becomes
        B (M Sigma_W M^T) B^T in those of B M.
        """
        classes = len(self.counts)
        group = as_labels(group, classes, classes).to(self.counts.device)
        counts = torch.zeros_like(self.counts[: int(group.max()) + 1]).index_add_(0, group, self.counts)
        require_samples(counts)
        sizes = self.counts.to(torch.float64)[:, None]  # (C, 1)

        def pooled(rows: Tensor) -> Tensor:
            """A times rows: averages over the classes of each group, weighted by their samples."""
            sums = rows.new_zeros(len(counts), *rows.shape[1:]).index_add_(0, group, rows * sizes)
            return sums / counts[:, None]

        means = pooled(self.means)  # (G, D)
        gaps = self.means - means[group]  # (C, D)
        scatter = pooled((self.scatter + gaps.square().sum(dim=1))[:, None])[:, 0]
        weights = sizes / sizes.sum()  # (C, 1)
        if self.in_features:
            projected = project(self.projected + gaps.T @ (weights * gaps), means)
        else:
            shadow = gaps @ centred(means).T  # (C, G)
            half = centred(pooled(self.projected))  # (G, C) B (M Sigma_W M^T)
            projected = centred(pooled(half.T)) + shadow.T @ (weights * shadow)
        return Moments(counts, means, scatter, projected)

    @property
    def in_features(self) -> bool:
        """Whether ``projected`` is Sigma_W in the coordinates of the features, that is C > D."""
        return len(self.means) > self.means.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """The four arrays by name, as safetensors keeps them."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Moments:
        """The inverse of ``tensors``."""
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})


class ClassMoments:
    """Moments of a stream of features, one pass, float64, mergeable in any order.

    Parameters
    ----------
    num_classes, dim : C and D; the accumulator holds (C + D) D numbers.
    device : where batches are accumulated.

    Attributes
    ----------
    counts : (C,) int64. Classes may be empty until ``summary``; their mean and scatter read zero.
    means : (C, D) class means.

    Raises
    ------
    ValueError : C or D that is no positive whole number, or more memory than 64 GB.

    Notes
    -----
    Joining n_a and n_b samples whose means differ by d adds d d^T n_a n_b / (n_a + n_b) to their
    squares around the mean: Chan, Golub and LeVeque (1983). Only differences of means are squared.
    """

    def __init__(self, num_classes: int, dim: int, device: str | torch.device = "cpu") -> None:
        num_classes, dim = as_whole(num_classes, "num_classes", 1, MOST_CLASSES), as_whole(dim, "dim", 1)
        if (num_classes + dim) * dim > MOST_NUMBERS:
            raise ValueError(
                f"num_classes={num_classes}, dim={dim}: that is {(num_classes + dim) * dim:.1e} numbers; "
                f"choose {MOST_NUMBERS:.1e} at most"
            )
        self.counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
        self.means = torch.zeros(num_classes, dim, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self.means[:, 0])  # (C,) sums
        self._products = torch.zeros(dim, dim, dtype=torch.float64, device=device)  # (D, D) sum

    @classmethod
    def of(cls, h: ArrayLike, y: ArrayLike, num_classes: int | None = None) -> ClassMoments:
        """Moments of (N, D) features with (N,) labels in [0, C), on the features' device.

        Raises
        ------
        ValueError : features or labels that ``as_samples`` refuses.
        """
        h, y, num_classes = as_samples(h, y, num_classes)
        return cls(num_classes, h.shape[1], h.device).update(h, y)

    @property
    def scatter(self) -> Tensor:
        """(C,) biased within-class scatter, the class mean of ||h - mu_c||^2."""
        return self._squares / self.counts.clamp(min=1)

    @property
    def within(self) -> Tensor:
        """(D, D) pooled within-class covariance Sigma_W, an average over all samples."""
        return self._products / self.counts.sum().clamp(min=1)

    def update(self, h: ArrayLike, y: ArrayLike) -> ClassMoments:
        """Add (N, D) features with (N,) labels in [0, C); returns the accumulator itself.

        Raises
        ------
        ValueError : features of another dimension, or features or labels that ``as_samples`` refuses.
        """
        num_classes, dim = self.means.shape
        h, y, _ = as_samples(h, y, num_classes)
        if h.shape[1] != dim:
            raise ValueError(f"features must have dimension {dim} here; got {h.shape[1]}")
        h, y = h.to(self.means.device), y.to(self.means.device)
        batch = ClassMoments(num_classes, dim, self.means.device)
        batch.counts, batch.means = class_means(h, y, num_classes)
        batch._squares, batch._products = residual_sums(h, y, batch.means)
        return self.merge(batch)

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Become the moments of both streams joined; ``other`` is not changed. Returns itself.

        Raises
        ------
        TypeError : no ``ClassMoments``.
        ValueError : moments of another (C, D).
        """
        if not isinstance(other, ClassMoments):
            raise TypeError(f"only ClassMoments merge; got {type(other).__name__}")
        if self.means.shape != other.means.shape:
            mine, theirs = tuple(self.means.shape), tuple(other.means.shape)
            raise ValueError(f"only moments of equal (C, D) merge; got {mine} and {theirs}")
        device = self.means.device
        counts = self.counts + other.counts.to(device)
        share = other.counts.to(self.means) / counts.clamp(min=1)  # (C,) n_b / (n_a + n_b)
        gaps = other.means.to(device) - self.means  # (C, D)
        mass = (self.counts * share)[:, None]  # (C, 1) n_a n_b / (n_a + n_b)
        self._squares += other._squares.to(device) + (mass * gaps.square()).sum(dim=1)
        self._products += other._products.to(device) + gaps.T @ (mass * gaps)
        self.means += share[:, None] * gaps
        self.counts = counts
        return self

    def summary(self) -> Moments:
        """The moments that measures need. Raises ValueError where a class has no sample."""
        require_samples(self.counts)
        projected = project(self.within, self.means)
        return Moments(self.counts.clone(), self.means.clone(), self.scatter, projected)


def class_means(h: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Samples per class (C,) and class means (C, D) in float64, zero where a class is empty.

    Sums are of differences from the first sample of each class. Far from the origin they keep the digits that
    sums of the samples would round away, and the mean of equal samples is that sample, exactly.
    """
    counts = torch.bincount(y, minlength=num_classes)
    origins = torch.zeros(num_classes, h.shape[1], dtype=torch.float64, device=h.device)
    origins[counts > 0] = h[first_rows(y, num_classes)[counts > 0]].to(torch.float64)

    def add(h: Tensor, y: Tensor) -> Tensor:
        sums = torch.zeros_like(origins)
        for labels, z in residual_rows(h, y, origins):  # (n,), (n, D)
            sums.index_add_(0, labels, z)
        return sums

    sums = reduce(torch.Tensor.add_, of_parts(add, h, y, least=32 * origins.numel()))
    return counts, sums.div_(counts.clamp(min=1)[:, None]).add_(origins)


def first_rows(labels: Tensor, num_classes: int) -> Tensor:
    """The first row of every class (C,), of (N,) labels; N where a class is empty."""
    rows = torch.arange(len(labels), device=labels.device)
    return rows.new_full((num_classes,), len(labels)).scatter_reduce_(0, labels, rows, "amin")


def residual_sums(h: Tensor, y: Tensor, means: Tensor, axes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sums over the features minus their class means, z.

    Parameters
    ----------
    h, y : (N, D) features and (N,) labels.
    means : (C, D) float64.
    axes : (k, D) coordinates to take; those of the features if not given.

    Returns
    -------
    (C,) sums of ||z||^2 by class and the (k, k) sum of (A z) (A z)^T, A the axes; float64.
    """
    size = means.shape[1] if axes is None else len(axes)

    def add(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        squares, gram = means.new_zeros(len(means)), means.new_zeros(size, size)
        for labels, z in residual_rows(h, y, means):  # (n,), (n, D)
            squares.index_add_(0, labels, torch.linalg.vector_norm(z, dim=1).square())
            add_gram(gram, z if axes is None else (axes @ z.T).T)  # few axes first: twice as fast
        return squares, gram

    squares, grams = zip(*of_parts(add, h, y, least=32 * size**2), strict=True)
    return sum(squares), symmetric(reduce(torch.Tensor.add_, grams))


def residual_rows(h: Tensor, y: Tensor, means: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Walk over the samples in order: labels (n,), float64 features minus class means (n, D).

    One array holds the differences of every step.
    """
    buffer = None
    for rows, x in float64_rows(h):
        buffer = torch.empty_like(x) if buffer is None else buffer
        z = torch.index_select(means, 0, y[rows], out=buffer[: len(x)])
        yield y[rows], torch.sub(x, z, out=z)


def project(within: Tensor, means: Tensor) -> Tensor:
    """``Moments.projected`` from the covariance Sigma_W (D, D) and the class means (C, D)."""
    if len(means) > means.shape[1]:
        return within
    axes = centred(means)
    return axes @ within @ axes.T


def add_gram(gram: Tensor, rows: Tensor) -> None:
    """Add rows^T rows, (n, k), to the blocks of the (k, k) ``gram`` on and above its diagonal."""
    for start in range(0, len(gram), GRAM_COLUMNS):
        block = slice(start, start + GRAM_COLUMNS)
        gram[block, start:].addmm_(rows[:, block].T, rows[:, start:])


def symmetric(gram: Tensor) -> Tensor:
    """Fill the blocks below the diagonal that ``add_gram`` left out, in place."""
    for start in range(0, len(gram), GRAM_COLUMNS):
        stop = start + GRAM_COLUMNS
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram


def centred(points: Tensor) -> Tensor:
    """Rows minus their mean.

    Twice: far from the origin rounding leaves of the first mean a part that the rows share, which would be a
    direction of its own to a rank or an inverse.
    """
    near = points - points.mean(dim=0)
    return near - near.mean(dim=0)


def require_moments(moments: object) -> None:
    """Raise TypeError for anything but ``Moments``: of ``ClassMoments`` some classes may be empty."""
    if not isinstance(moments, Moments):
        raise TypeError(f"expected Moments; got {type(moments).__name__}. ClassMoments have .summary()")


def require_samples(counts: Tensor, at_least: int = 1) -> None:
    """Raise ValueError if a class has fewer samples than a measure needs."""
    short = (counts < at_least).nonzero().flatten()
    if len(short):
        label = int(short[0])
        hint = "" if counts[label] else f": number classes from 0 on without gaps, {NUMBERED}"
        raise ValueError(
            f"each of the {len(counts)} classes needs {at_least} samples or more; "
            f"class {label} has {int(counts[label])}{hint}"
        )
