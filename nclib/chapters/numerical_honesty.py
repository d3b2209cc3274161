"""How many digits the fine structure needs: features whose answer is known, and their rounding.

h, y = close_pairs(distance=0.01)
nc1_by_pinv(h.float(), y)          # the usual way, wrong here; close_pairs_nc1(0.01) is right
rounding(f.h, f.fine, f.coarse)    # MSDR and reconstruction as collapse goes on, number format by format
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import MARKERS, described, theme
from nclib.chapters.statistics import over_seeds
from nclib.measures.arrays import ArrayLike, as_features, as_labels
from nclib.measures.collapse import variability
from nclib.measures.distances import coarse_of_fine, msdr_of
from nclib.measures.moments import Moments, centred, class_means
from nclib.measures.reconstruction import match_labels, reconstruct_labels


def rounding_table(tables: Mapping[str, Sequence[pd.DataFrame]], factor: float = 1) -> pd.DataFrame:
    """MSDR and reconstruction accuracy by data and number format, at one depth of collapse.

    Parameters
    ----------
    tables : of ``nclib.chapters.numerical_honesty.rounding``; several of one name are seeds.
    factor : how much further than trained; 1 is as trained.
    """
    rows = []
    for name, of_seeds in tables.items():
        joined = pd.concat(of_seeds)
        for kept, of_format in joined[joined["factor"] == factor].groupby("format", sort=False):
            rows.append(
                {
                    "data": name,
                    "format": kept,
                    "NC1 before rounding": over_seeds(of_format["nc1"], "{:.2g}"),
                    "MSDR": over_seeds(of_format["msdr"], "{:.4f}"),
                    "reconstruction accuracy, k-means": over_seeds(of_format["found"], "{:.4f}"),
                }
            )
    return pd.DataFrame(rows).set_index(["data", "format"])


RIGHT = 0.01  # relative error of an NC1 that is right
KEPT = 0.01  # of reconstruction accuracy: what rounding may cost and still keep it
NOISE = 0.0045  # of close_pairs, in units of the distance of siblings
TF32_DROPPED = 13  # bits of float32's fraction that tf32 does without: 10 of 23 stay


def close_pairs(
    distance: float,
    samples: int = 50_000,
    dim: int = 512,
    pairs: int = 5,
    noise: float = NOISE,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Features of classes that come in pairs of close siblings.

    Parameters
    ----------
    distance : between the means of two siblings. Two pairs are sqrt(2) apart.
    samples, dim, pairs : N, D and P; there are C = 2 P classes of equal size, up to one sample.
    noise : standard deviation inside a class, in each dimension, in units of ``distance``.
    seed : of the directions and of the noise.

    Returns
    -------
    (N, D) float64 features, (N,) int64 labels; classes 2 p and 2 p + 1 are the siblings of pair p.

    Raises
    ------
    ValueError : fewer dimensions than the 2 P directions that the means need.

    Notes
    -----
    The centre of pair p is q_p - mean(q), its two classes lie at +-distance / 2 along r_p, with q_1 ... r_P
    orthonormal and turned at random, so that every feature uses all dimensions.
    """
    if dim < 2 * pairs:
        raise ValueError(f"{pairs} pairs need {2 * pairs} dimensions; got {dim}")
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(dim, 2 * pairs, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(normal)[0].T  # (2 P, D), orthonormal rows
    offset = distance / 2 * directions[pairs:]
    centres = centred(directions[:pairs])
    means = torch.stack([centres - offset, centres + offset], dim=1).flatten(0, 1)  # (C, D)
    y = torch.arange(samples) % (2 * pairs)
    h = torch.randn(samples, dim, generator=generator, dtype=torch.float64)
    return h.mul_(noise * distance).add_(means[y]), y


def close_pairs_nc1(distance: float, pairs: int = 5, noise: float = NOISE) -> float:
    """NC1 of ``close_pairs`` in closed form, for infinitely many samples.

    Notes
    -----
    Sigma_W = (noise * distance)^2 I. Sigma_B has P - 1 eigenvalues 1 / P, between the pairs, and P
    eigenvalues distance^2 / (4 P), between siblings.
    """
    return noise**2 * (2 * pairs + (pairs - 1) / 2 * distance**2)


def siblings_dropped_nc1(distance: float, pairs: int = 5, noise: float = NOISE) -> float:
    """What is left of ``close_pairs_nc1`` when the directions between siblings are dropped."""
    return noise**2 * (pairs - 1) / 2 * distance**2


def pinv_limit(dim: int = 512) -> float:
    """Distance of siblings below which ``torch.linalg.pinv`` in float32 drops the directions between them.

    Notes
    -----
    pinv of a D x D matrix drops singular values below D eps times the largest. Of Sigma_B these are
    distance^2 / (4 P) and 1 / P.
    """
    return 2 * (dim * torch.finfo(torch.float32).eps) ** 0.5


def nc1_by_pinv(h: Tensor, y: Tensor, rtol: float | None = None) -> float:
    """NC1 as its formula is usually typed, tr(Sigma_W pinv(Sigma_B)) / C, in the precision of ``h``.

    Parameters
    ----------
    h, y : (N, D) features and (N,) labels in [0, C).
    rtol : cut-off of the pseudo-inverse, in units of the largest singular value; None: D eps.

    Notes
    -----
    Here to be measured. ``nclib.collapse_metrics`` does not compute NC1 this way.
    """
    counts = torch.bincount(y)
    means = h.new_zeros(len(counts), h.shape[1]).index_add_(0, y, h) / counts[:, None]  # (C, D)
    z, m = h - means[y], centred(means)
    within, between = z.T @ z / len(h), m.T @ m / len(counts)  # (D, D), (D, D)
    return float(torch.trace(within @ torch.linalg.pinv(between, rtol=rtol)) / len(counts))


def rounded(h: ArrayLike, name: str) -> Tensor:
    """Features as a number format keeps them, rounded to nearest, ties to even.

    Parameters
    ----------
    h : (N, D) features.
    name : "fp32", "tf32" (10 bits of fraction, the exponents of fp32), "fp16" or "bf16".

    Returns
    -------
    (N, D) float32, which holds the values of all four formats exactly.

    Raises
    ------
    ValueError : an unknown format, or features that ``as_features`` refuses.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name](as_features(h))


def _tf32(h: Tensor) -> Tensor:
    bits = h.float().contiguous().view(torch.int32)
    half = (1 << (TF32_DROPPED - 1)) - 1 + (bits >> TF32_DROPPED & 1)  # just under one half, or one half
    return ((bits + half) >> TF32_DROPPED << TF32_DROPPED).view(torch.float32)


FORMATS: dict[str, Callable[[Tensor], Tensor]] = {
    "fp32": lambda h: h.float(),
    "fp16": lambda h: h.half().float(),
    "tf32": _tf32,
    "bf16": lambda h: h.bfloat16().float(),
}
NC1_METHODS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "fp32 features, fp32 pinv": lambda h, y: nc1_by_pinv(h.float(), y),
    **{
        f"{name} features, fp64 Gram matrix": lambda h, y, name=name: variability(
            Moments.of(rounded(h, name), y)
        )
        for name in ("fp32", "fp16", "tf32", "bf16")
    },
}


def nc1_errors(distances: Sequence[float], samples: int = 50_000, seed: int = 0) -> pd.DataFrame:
    """NC1 of ``close_pairs`` by every method, against the textbook formula in float64.

    Returns
    -------
    one row for each distance and method: "distance", "method", "nc1", "reference" and "error", the
    relative difference of both.
    """
    rows = []
    for distance in distances:
        h, y = close_pairs(distance, samples, seed=seed)
        reference = nc1_by_pinv(h, y)
        for method, nc1_of in NC1_METHODS.items():
            nc1 = nc1_of(h, y)
            row = {"distance": distance, "method": method, "nc1": nc1, "reference": reference}
            rows.append(row | {"error": abs(nc1 / reference - 1)})
    return pd.DataFrame(rows)


def nc1_table(errors: pd.DataFrame) -> pd.DataFrame:
    """NC1 by method (rows) and distance of siblings (columns), from ``nc1_errors``, as text.

    The closed form and the float64 reference stand above, what dropping the siblings leaves stands below.
    """
    by_distance = errors.groupby("distance", sort=False)["reference"].first()
    rows = {
        "closed form, many samples": {d: close_pairs_nc1(d) for d in by_distance.index},
        "fp64 features, fp64 pinv: the reference": by_distance.to_dict(),
    }
    for method, of_method in errors.groupby("method", sort=False):
        rows[method] = dict(zip(of_method["distance"], of_method["nc1"], strict=True))
    rows["closed form, siblings dropped"] = {d: siblings_dropped_nc1(d) for d in by_distance.index}
    table = pd.DataFrame(rows).T.map("{:.3g}".format)
    table.columns.name = "distance of siblings"
    return table


def shrunk(h: ArrayLike, coarse: ArrayLike, factor: float) -> Tensor:
    """Features drawn towards the mean of their super-class, (N, D) float64, as further collapse would.

    NC1 of the super-classes falls by factor^2. MSDR does not change, nor does what clustering finds.
    """
    h = as_features(h)
    coarse = as_labels(coarse, len(h)).to(h.device)
    means = class_means(h, coarse, int(coarse.max()) + 1)[1][coarse]  # (N, D)
    return means + (h.double() - means) / factor


def rounding(
    h: ArrayLike,
    fine: ArrayLike,
    coarse: ArrayLike,
    factors: Sequence[float] = (1, 10, 100, 1000, 10_000),
    formats: Sequence[str] = tuple(FORMATS),
) -> pd.DataFrame:
    """Fine structure that number formats keep while the super-classes collapse further.

    Parameters
    ----------
    h, fine, coarse : (N, D) features and (N,) labels of both levels.
    factors : of ``shrunk``.
    formats : of ``rounded``.

    Returns
    -------
    one row for each factor and format: "factor", "format", "nc1" of the super-classes before rounding;
    "msdr", mean over fine classes, and "found", the reconstruction accuracy of k-means, after it.
    """
    fine, coarse = as_labels(fine), as_labels(coarse)
    group = coarse_of_fine(fine, coarse)
    clusters = torch.bincount(group).tolist()
    rows = []
    for factor in factors:
        exact = shrunk(h, coarse, factor)
        nc1 = variability(Moments.of(exact, coarse))
        for name in formats:
            kept = rounded(exact, name)
            found = reconstruct_labels(kept, coarse, clusters, method="kmeans")
            row = {"factor": factor, "format": name, "nc1": nc1}
            row["msdr"] = float(np.nanmean(msdr_of(Moments.of(kept, fine), group)))
            rows.append(row | {"found": match_labels(found, fine).accuracy})
    return pd.DataFrame(rows)


def statements(
    errors: pd.DataFrame, samples: int, kept: Mapping[str, Sequence[pd.DataFrame]], images: Mapping[str, int]
) -> list[Statement]:
    """What rounding does to NC1 of the synthetic set, and to the fine classes of trained networks.

    Parameters
    ----------
    errors, samples : of ``nc1_errors``, and how many samples it was told to draw.
    kept : of ``rounding``, by name of the data; several of one name are seeds.
    images : how many images these are, by name.
    """
    gram, pinv = (errors[errors["method"].str.endswith(name)] for name in ("fp64 Gram matrix", "fp32 pinv"))
    gram, pinv = gram[gram["method"].str.startswith("fp32")], pinv[pinv["distance"] < pinv_limit()]
    digits = -np.log10(gram["error"].clip(lower=1e-16))
    factor = np.log10(pinv["reference"] / pinv["nc1"])
    right, wrong = (
        [Case(f"siblings {d:g} apart", [v], samples) for d, v in zip(of["distance"], values, strict=True)]
        for of, values in ((gram, digits), (pinv, factor))
    )
    depths = sorted(
        {factor for of_seeds in kept.values() for table in of_seeds for factor in table["factor"]}
    )
    lost = {
        depth: [
            Case(name, [_lost(table, depth) for table in of_seeds], images[name])
            for name, of_seeds in kept.items()
        ]
        for depth in (depths[0], depths[-1])
    }
    made = [
        Statement(
            f"Float32 features and a float64 Gram matrix give NC1 to {100 * RIGHT:g} %",
            "correct decimal digits of NC1",
            right,
            float(-np.log10(RIGHT)),
        ),
        Statement(
            "Where pinv drops the siblings, the formula in float32 gives a tenth of NC1 or less",
            "decimal logarithm of true over reported NC1",
            wrong,
            1,
        ),
        Statement(
            f"As trained, features in bf16 keep the reconstruction accuracy to {KEPT:g}",
            "reconstruction accuracy from bf16 minus that from float32",
            [replace(case, values=[-value for value in case.values]) for case in lost[depths[0]]],
            -KEPT,
        ),
        Statement(
            f"Drawn together {depths[-1]:,.0f} times, features in bf16 lose more than that",
            "reconstruction accuracy from float32 minus that from bf16",
            lost[depths[-1]],
            KEPT,
        ),
    ]
    return [statement for statement in made if statement.cases]


def _lost(table: pd.DataFrame, factor: float) -> float:
    """Reconstruction accuracy from float32 features minus that from bf16 ones, at one depth of collapse."""
    found = table[table["factor"] == factor].set_index("format")["found"]
    return float(found["fp32"] - found["bf16"])


@theme()
def nc1_errors_figure(table: pd.DataFrame, limit: float) -> Axes:
    """Relative error of NC1 against the distance of siblings, method by method.

    Parameters
    ----------
    table : of ``nclib.chapters.numerical_honesty.nc1_errors``.
    limit : distance below which the pseudo-inverse drops the siblings, see
        ``nclib.chapters.numerical_honesty.pinv_limit``.
    """
    _, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for method, rows in table.groupby("method", sort=False):
        axes.plot(rows["distance"], rows["error"], label=method, **_format_style(method))
    axes.axvline(limit, color="0.4", lw=1, ls=":", label="fp32 pinv drops siblings")
    axes.axhline(1, color="0.4", lw=1, ls="--", label="as wrong as zero would be")
    axes.set(xscale="log", yscale="log", xlabel=r"distance of siblings (pairs are $2^{1/2}$ apart)")
    axes.set_ylabel("relative error of NC1")
    axes.invert_xaxis()
    axes.set_title("Error of NC1, by precision and distance of siblings")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    closest = table[table["distance"] == table["distance"].min()]
    ends = "; ".join(f"{row.method}: {row.error:.1g}" for row in closest.itertuples())
    return described(axes, f"Relative error of NC1 at sibling distance {table['distance'].min():g}: {ends}.")


@theme()
def rounding_figure(tables: Mapping[str, Sequence[pd.DataFrame]]) -> Axes:
    """MSDR and reconstruction accuracy while collapse goes on, number format by format, a row for each name.

    Lines are means over seeds, bands reach from the lowest to the highest.

    Parameters
    ----------
    tables : of ``nclib.chapters.numerical_honesty.rounding``; several of one name are seeds.
    """
    figure, panels = plt.subplots(
        len(tables), 2, figsize=(9, 0.8 + 2.6 * len(tables)), squeeze=False, layout="constrained"
    )
    labels = {"msdr": "MSDR of fine classes", "found": "reconstruction accuracy"}
    for row, (name, of_seeds) in zip(panels, tables.items(), strict=True):
        for panel, (measure, label) in zip(row, labels.items(), strict=True):
            for kept, rows in pd.concat(of_seeds).groupby("format", sort=False):
                at = rows.groupby("factor").agg({"nc1": "mean", measure: ["mean", "min", "max"]})
                nc1, values, style = at["nc1", "mean"], at[measure], _format_style(kept)
                panel.plot(nc1, values["mean"], label=kept, **style)
                panel.fill_between(nc1, values["min"], values["max"], color=style["color"], alpha=0.15, lw=0)
            panel.set(xscale="log", xlabel="NC1 of super-classes before rounding", ylabel=label)
            panel.set_title(name, fontsize="medium")
            panel.invert_xaxis()
    panels[0, 0].legend(fontsize="small", loc="lower left")
    figure.suptitle("Fine structure in rounded features, as collapse deepens")
    last = pd.concat(of_seeds).groupby(["factor", "format"], sort=False)[["msdr", "found"]].mean()
    kept = last.loc[last.index[-1][0]]
    words = "; ".join(
        f"{r.Index}: MSDR {r.msdr:.2f}, reconstruction accuracy {r.found:.2f}" for r in kept.itertuples()
    )
    return described(panels[0, 0], f"At the deepest collapse of {name}: {words}.")


def _format_style(name: str) -> dict[str, Any]:
    """One look a number format; fp16 is drawn broad, because tf32 mostly lies on it."""
    number = next(i for i, start in enumerate(("fp32 features, fp32", *FORMATS)) if name.startswith(start))
    fp16 = name.startswith("fp16")
    return {
        "color": f"C{number}",
        "marker": MARKERS[number],
        "ms": 9 if fp16 else 5,
        "lw": 5 if fp16 else 1.5,
        "alpha": 0.5 if fp16 else 1,
    }
