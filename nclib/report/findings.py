"""The numbers of a report: what ``nclib.subpopulations`` finds in a feature file, and what speaks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from nclib.measures.arrays import rows_by_class
from nclib.measures.collapse import variability
from nclib.measures.gaussians import like_gaussians
from nclib.measures.moments import Moments
from nclib.measures.rounding import FINE, half_format, steps_in_deviation
from nclib.measures.subpopulations import (
    LEAST,
    Subpopulations,
    distinct,
    subpopulations,
    unseen_half,
    why_not_tested,
)
from nclib.report.geometry import agreement, closeness, separation
from nclib.storage.feature_files import LabelledFeatures

NAMED = 5  # classes, in the sentence above all others
SHOWN = 8  # samples in a row of the page
DETAILED = 30  # classes that are looked at closely, those with the smallest p
OF_NULL = 2000  # samples of a class that its null is made from, at most
COVERAGE = 0.95  # of all intervals of accuracies together
TOO_COARSE = "not judged: features are rounded too coarsely"
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")


def findings(features: LabelledFeatures, found: Subpopulations, level: float, seed: int) -> dict[str, Any]:
    """Everything that a report says, as JSON can hold it.

    Parameters
    ----------
    features : of a feature file.
    found : of ``nclib.subpopulations`` in them, with this level and seed.
    level : probability that any class of one population at all is split, at most.
    seed : of every random choice.

    Returns
    -------
    "sentence", what was found; "n", "dim", "level" and "seed"; "classes", a row for each label that occurs,
    those with sub-populations first, with "rounded" where half precision makes that no evidence; "empty", how
    many labels below the largest do not occur; "details" of at most 30 classes, in the same order;
    "accuracy", of the model in their sub-populations, worst first, None without logits; "collapse". Rows of
    samples are those of the file, from 0 on.
    """
    rows = rows_by_class(features.y, len(found.count))
    form = half_format(torch.from_numpy(features.h))
    classes = [_class(features, found, c, rows[c], form) for c in range(len(rows)) if len(rows[c])]
    classes.sort(key=lambda row: (row["count"] < 2, row["p"] if row["count"] > 1 else 0, row["label"]))
    split = [row["label"] for row in classes if row["count"] > 1]
    return {
        "sentence": sentence(classes),
        "n": len(features.y),
        "dim": features.h.shape[1],
        "level": level,
        "seed": seed,
        "classes": classes,
        "empty": len(rows) - len(classes),
        "details": [_details(features, found, c, rows[c], level, seed) for c in split[:DETAILED]],
        "accuracy": None if features.logits is None else accuracies(features, found),
        "collapse": collapse(features),
    }


def _class(
    features: LabelledFeatures, found: Subpopulations, c: int, rows: np.ndarray, form: torch.dtype | None
) -> dict[str, Any]:
    """The row of a class; ``form`` is that of 16 bits that holds all features, if any does."""
    count = int(found.count[c])
    x, labels = features.h[rows].astype(np.float64), found.labels[rows]
    rounded = _rounded(x, form)
    return {
        "label": c,
        "name": class_name(features, c),
        "n": len(rows),
        "count": count,
        "p": float(found.p[c]),
        "sizes": np.bincount(labels, minlength=count).tolist(),
        "separation": separation(x, labels) if count > 1 else None,
        "verdict": verdict(count, x) if rounded is None else TOO_COARSE,
        "rounded": rounded,
    }


def _rounded(x: np.ndarray, form: torch.dtype | None) -> dict[str, Any] | None:
    """Format, and its steps in a standard deviation, if these are too few to judge a class (n, D)."""
    if form is None or why_not_tested(x):
        return None
    steps = steps_in_deviation(distinct(x)[0], form)  # of copies, one counts
    if steps >= FINE:
        return None
    return {"format": str(form).removeprefix("torch."), "steps": steps}


def class_name(features: LabelledFeatures, c: int) -> str:
    return f"class {c}" if features.class_names is None else features.class_names[c]


def verdict(count: int, x: np.ndarray) -> str:
    """What is said of a class (n, D) in words."""
    if why := why_not_tested(x):
        return f"not tested: {why}"
    return "no evidence for more than one" if count == 1 else f"{number_in_words(count)} sub-populations"


def number_in_words(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else f"{count:,}"


def sentence(rows: list[dict[str, Any]], isolated: Callable[[str], str] = str) -> str:
    """What was found, in a sentence or two; ``isolated`` keeps a name from turning the text around it."""
    coarse = sum(row["verdict"] == TOO_COARSE for row in rows)
    if not coarse:
        return _of_tested(rows, isolated)
    classes = f"{coarse:,} {'class' if coarse == 1 else 'classes'}"
    not_judged = f"Features of {classes} are rounded too coarsely to be judged: extract them in float32."
    return f"{_of_tested(rows, isolated)} {not_judged}" if any(map(_is_tested, rows)) else not_judged


def _is_tested(row: dict[str, Any]) -> bool:
    return not row["verdict"].startswith(("not tested", "not judged"))


def _of_tested(rows: list[dict[str, Any]], isolated: Callable[[str], str]) -> str:
    split = [row for row in rows if row["count"] > 1 and _is_tested(row)]
    tested = sum(map(_is_tested, rows))
    present = len(rows)
    of = "the only class" if present == 1 else f"any of {present:,} classes"
    if not tested:
        return f"Nothing was tested: no class has {LEAST} samples that differ."
    if not split:
        return f"There is no evidence for sub-populations in {of}{_of_which(tested, present)}."
    names = ", ".join(f"“{isolated(shortened(row['name'], 40))}” ({row['count']})" for row in split[:NAMED])
    more = f" and {len(split) - NAMED:,} more" if len(split) > NAMED else ""
    classes_hide = f"{'class' if present == 1 else 'classes'} {'hides' if len(split) == 1 else 'hide'}"
    found = f"{len(split):,} of {present:,} {classes_hide} sub-populations{_of_which(tested, present)}"
    return f"{found}: {names}{more}."


def _of_which(tested: int, present: int) -> str:
    return "" if tested == present else f" ({tested:,} could be tested)"


def shortened(text: str, most: int = 80) -> str:
    """A name as a page shows it; it can be of any length."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _details(
    features: LabelledFeatures, found: Subpopulations, c: int, rows: np.ndarray, level: float, seed: int
) -> dict[str, Any]:
    """What is shown of a class that has sub-populations."""
    x, labels = features.h[rows].astype(np.float64), found.labels[rows]
    rng = np.random.default_rng([seed, c])
    near = closeness(x, labels)
    parts = []
    for k in range(found.count[c]):
        members = np.flatnonzero(labels == k)
        chosen = rng.permutation(members)[:SHOWN]
        border = members[np.argsort(near[members], kind="stable")][:SHOWN]
        parts.append({"random": rows[chosen].tolist(), "borderline": rows[border].tolist()})
    apart = rng.permutation(rows)[: 2 * SHOWN]
    again = agreement(x, labels, level, seed)
    return {
        "label": c,
        "name": class_name(features, c),
        "p": float(found.p[c]),
        "sizes": np.bincount(labels).tolist(),
        "parts": parts,
        "at_random": [apart[:SHOWN].tolist(), apart[SHOWN:].tolist()],
        "agreement": again,
        "found_again": sum(each is not None for each in again),
        "profile": _profile(x, seed),
        "null": _null(x, rng, level, seed),
    }


def _null(x: np.ndarray, rng: np.random.Generator, level: float, seed: int) -> dict[str, Any]:
    """The same of one Gaussian of the same mean and covariance."""
    x = x[rng.permutation(len(x))[:OF_NULL]]
    one = np.zeros(len(x), dtype=int)
    null = like_gaussians(x, one, int(rng.integers(2**31)))
    tested = subpopulations(null, one, level, seed)
    return {
        "n": len(null),
        "count": int(tested.count[0]),
        "p": float(tested.p[0]),
        "profile": _profile(null, seed),
    }


def _profile(x: np.ndarray, seed: int) -> dict[str, Any]:
    """Coordinates of half of a class along the direction that the other half chose, and its valley there."""
    values, valley = unseen_half(x, seed)
    width = values.std() or 1.0
    centre = values.mean()
    counts, edges = np.histogram((values - centre) / width, bins=40)
    windows = None
    if valley is not None:
        starts = (np.array(valley[:3]) - centre) / width
        spans = valley.widths / width
        windows = {
            "starts": starts.tolist(),
            "widths": spans.tolist(),
            "counts": valley.counts(values).tolist(),
        }
    return {"edges": edges.tolist(), "counts": counts.tolist(), "windows": windows}


def accuracies(features: LabelledFeatures, found: Subpopulations) -> dict[str, Any]:
    """Accuracy of the model in every sub-population of the classes that have some, worst first.

    Notes
    -----
    Intervals are those of Clopper and Pearson (1934), each at the level at which all together hold with
    ``COVERAGE`` (Bonferroni): the worst is chosen by looking.
    """
    right = features.logits.argmax(axis=1) == features.y
    of_class = rows_by_class(features.y, len(found.count))
    parts = [(c, k) for c in np.flatnonzero(found.count > 1) for k in range(found.count[c])]
    rows = []
    for c, k in parts:
        members = of_class[c][found.labels[of_class[c]] == k]
        n, correct = len(members), int(right[members].sum())
        interval = binomtest(correct, n).proportion_ci(1 - (1 - COVERAGE) / len(parts), "exact")
        rows.append(
            {
                "label": int(c),
                "name": class_name(features, c),
                "part": k + 1,
                "n": n,
                "accuracy": correct / n,
                "low": float(interval.low),
                "high": float(interval.high),
                "of_class": float(right[of_class[c]].mean()),
            }
        )
    rows.sort(key=lambda row: row["accuracy"])
    return {"all": float(right.mean()), "parts": rows}


def collapse(features: LabelledFeatures) -> dict[str, float | None]:
    """How far the classes have collapsed: NC1, and the share of the variance that lies inside classes.

    None where it is not defined: NC1 of one class or of classes that share one mean, a share of no variance.
    """
    dense = np.unique(features.y, return_inverse=True)[1]
    moments = Moments.of(features.h, dense)
    weights = moments.counts.double() / moments.counts.sum()  # (C,)
    within = float(weights @ moments.scatter)
    between = float(weights @ (moments.means - weights @ moments.means).square().sum(dim=1))
    nc1 = variability(moments) if len(weights) > 1 else np.inf
    return {
        "nc1": nc1 if np.isfinite(nc1) else None,
        "share_within": within / (within + between) if within + between else None,
    }
