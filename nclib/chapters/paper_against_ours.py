"""What the sources say, ours beside it, and whether they agree by a rule that nobody bends.

    compare(read_claims(), live={"digits": runs})      # a row for each claim and experiment

The claims are in ``claims.toml``. Every number of ours is computed from runs, those that a page trains
and those released with the book, so that a new release changes the page by itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from nclib.chapters import distance_heatmaps, statistics, tables
from nclib.chapters.coarse_labels import SOME, explained_elsewhere
from nclib.chapters.collapse_as_loss import early_nc1
from nclib.chapters.more_datasets import labels_of_test
from nclib.chapters.neural_collapse import COLLAPSE_NAMES, of_split
from nclib.chapters.per_class_probes import averaged_over_seeds, correlation, per_class
from nclib.data.datasets import load
from nclib.measures.distances import distances_of
from nclib.measures.neighbours import neighbour_purity, purity_by_chance
from nclib.measures.ood_scores import detection_of, outlier_scores
from nclib.measures.significance import holm
from nclib.networks.features import features_of
from nclib.paths import NOTEBOOKS
from nclib.runs import evaluation
from nclib.runs.baselines import neighbours
from nclib.runs.detection import CLASS_SCORES, LABELLINGS
from nclib.runs.released import released_runs
from nclib.runs.run import Run
from nclib.training.losses import NC_TERMS

CLAIMS_FILE = Path(__file__).with_name("claims.toml")
SOURCES = {  # key in the bibliography: name
    "yang2023collapsed": "Yang, Steinhardt and Hu (2023)",
    "papyan2020prevalence": "Papyan, Han and Donoho (2020)",
    "haas2023linking": "Haas, Yolland and Rabus (2023)",
}
GRID = [(lr, decay) for lr in (1e-1, 1e-2, 1e-3) for decay in (5e-3, 5e-4, 5e-5)]  # of Yang et al.
SIGNIFICANT = 0.05
PLACES = ("above", "within the margin", "below")  # of a number without an interval
VERDICTS = (
    "same",
    "same direction",
    "above chance only",
    "weaker",
    "above, not significant",
    "not seen",
    "opposite",
    *(f"{seeds}: {where}" for seeds in ("one seed", "two seeds", "no interval") for where in PLACES),
    "run in part",
    "not run yet",
    "not tested",
)
COLUMNS = (  # of ``compare``
    "source",
    "claim",
    "data",
    "ours",
    "effect size",
    "p (Holm)",
    "verdict",
    "seeds",
    "published",
    "nothing",
    "reference",
    "setting",
    "tier",
    "n train / test",
    "commit",
)


@dataclass(frozen=True)
class Claim:
    """One claim of a source, and what of ours is held beside it; ``claims.toml`` explains the fields."""

    title: str
    source: str
    where: str
    chapter: str
    says: str
    test: str
    measure: str = ""
    key: str = ""
    bound: float | None = None
    margin: float = 0.0
    own: str = ""
    close: bool = False
    others: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


class Found(NamedTuple):
    """What was measured for a claim.

    Attributes
    ----------
    value : mean over seeds, unless the claim says otherwise.
    low, high : its 95 % interval; of two seeds the lower and the higher, else the value where there is none.
    null : the value if there were nothing.
    reference : the most that pixels or networks at initialisation give, where that is known.
    seeds : how many runs it is from.
    p : chance of a value as far from null, where there is an interval.
    deviation : of single seeds, on the scale on which they were averaged; that of ``size``.
    size : value minus null on that scale; a correlation is its own size.
    count : whether it is a number of runs, which has no error.
    """

    value: float
    low: float
    high: float
    null: float
    seeds: int
    p: float | None = None
    deviation: float | None = None
    size: float | None = None
    count: bool = False
    reference: float | None = None


def verdict(found: Found | None, bound: float | None = None, margin: float = 0.0) -> str:
    """How ours compares with a claim; larger values are in its favour.

    Parameters
    ----------
    found : what was measured, its ``p`` adjusted for the number of tests; None if nothing was run.
    bound : the published number, if there is one.
    margin : by how much ours may lie below it and still be called the same.

    Returns
    -------
    "not run yet" without a run; a count is "same" or "run in part". "above, not significant" if the interval
    lies above null, but ``p`` is not below 5 %; "not seen" if the interval reaches null, or lies below it
    with such a ``p``. Then, of one seed, "one seed: above" the bound, "one seed: within the margin"
    below it, or "one seed: below" both; where there is no bound, above null and reference, or below; "two
    seeds: above" if both are; "no interval: ..." likewise. "opposite" if the value lies below null. Without a
    bound "same direction" if the interval lies above the reference too, else "above chance only"; with one
    "same" if it lies above the bound less its margin, else "weaker".
    """
    if found is None:
        return "not run yet"
    beyond = found.null if found.reference is None else max(found.null, found.reference)
    needed = beyond if bound is None else bound - margin
    if found.count:
        return "same" if found.value > needed else "run in part"
    if found.p is not None and (found.p >= SIGNIFICANT or found.low <= found.null <= found.high):
        return "above, not significant" if found.low > found.null else "not seen"
    if found.p is None or found.seeds < statistics.FEWEST:
        start = {1: "one seed", 2: "two seeds"}.get(found.seeds, "no interval")
        return f"{start}: {_place(found.low, needed, needed if bound is None else bound)}"
    if found.value < found.null:
        return "opposite"
    if bound is None:
        return "same direction" if found.low > needed else "above chance only"
    return "same" if found.low > needed else "weaker"


def _place(value: float, needed: float, claimed: float) -> str:
    """Of ``PLACES``: above what is claimed, above what is needed only, or neither."""
    above, within, below = PLACES
    if value > claimed:
        return above
    return within if value > needed else below


def read_claims() -> list[Claim]:
    """All claims, in the order of ``claims.toml``; those with a number get the file's margin by default."""
    file = tomllib.loads(CLAIMS_FILE.read_text(encoding="utf-8"))
    margins = {"margin": file["margin"]}
    return [
        Claim(
            **(margins if "bound" in entry else {})
            | {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
        )
        for entry in file["claims"]
    ]


def compare(claims: Iterable[Claim], live: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Ours beside every claim.

    Parameters
    ----------
    claims : of ``read_claims``.
    live : runs of experiments that are trained rather than released, by name.

    Returns
    -------
    DataFrame of text, a row for each claim and experiment: "source", "claim", "data", "ours" with its
    interval (of two seeds the range), "effect size", "p (Holm)", "verdict", "seeds", "published" (the
    number, less its margin), "nothing" (the value if there were nothing), "reference" (the most of pixels
    and of networks at initialisation), "setting" ("source's" for the experiment that repeats it as far as
    we know it, "close" where we know what differs), "tier", "n train / test" and "commit".

    Notes
    -----
    P-values are adjusted by Holm's method over all rows of a source that have one.
    """
    claims = list(claims)
    rows, measured = [], []
    for claim in claims:
        for name, other in _experiments(claim):
            rows.append({"source": claim.source, "claim": claim.title})
            measured.append((claim, None))
            if not name:
                continue
            runs, compared = experiment_runs(name, live), experiment_runs(other, live)
            own = "close" if claim.close else "source's"
            rows[-1] |= {"data": name.rstrip("*"), "setting": own if name == claim.own else "another"}
            rows[-1]["tier"] = tier(name, live)
            if runs and (compared or not other):
                measure = PAIRED[claim.measure] if other else MEASURES[claim.measure]
                found = measure(runs, compared, claim.key) if other else measure(runs, claim.key)
                measured[-1] = (claim, found)
                rows[-1] |= _provenance(runs) if found else {}
    for row, (claim, found) in zip(rows, adjusted(measured), strict=True):
        row["verdict"] = verdict(found, claim.bound, claim.margin) if claim.measure else "not tested"
        if claim.bound is not None:
            row["published"] = f"{claim.bound:g}" + (f" - {claim.margin:g}" if claim.margin else "")
        row |= _described(found) if found else {}
    return pd.DataFrame([dict.fromkeys(COLUMNS, "-") | row for row in rows])


def _experiments(claim: Claim) -> list[tuple[str, str]]:
    """Names of a claim's experiments and of those that they are held against; one of no name if untested."""
    if not claim.measure:
        return [("", "")]
    names = [claim.own, *claim.others]
    return list(zip(names, claim.against or [""] * len(names), strict=True))


def adjusted(measured: Sequence[tuple[Claim, Found | None]]) -> list[tuple[Claim, Found | None]]:
    """What was measured for claims, with p-values adjusted by Holm's method within each source."""
    done = list(measured)
    for source in {claim.source for claim, _ in measured}:
        tested = [
            i for i, (claim, found) in enumerate(measured)
            if claim.source == source and found and found.p is not None
        ]  # fmt: skip
        p_values = holm([measured[i][1].p for i in tested])
        for i, p in zip(tested, p_values, strict=True):
            claim, found = measured[i]
            done[i] = (claim, found._replace(p=p))
    return done


def experiment_runs(name: str, live: Mapping[str, Sequence[Run]]) -> list[Run]:
    """Runs of an experiment: live ones, or the released folders NAME-seedN; none if there are none."""
    if not name:
        return []
    return list(live.get(name) or released_runs(f"{name}-seed*"))


def tier(name: str, live: Mapping[str, Sequence[Run]]) -> str:
    """Tier of an experiment by its name: live ones are quick."""
    return "quick" if name in live else "paper" if "paper" in name else "laptop"


def statements(claims: Iterable[Claim], source: str) -> pd.DataFrame:
    """What a source says and what is held beside it, a row for each claim."""
    rows = [
        {"claim": c.title, "where": c.where, "says": c.says, "held beside it": c.test}
        | {"chapter": _title(c.chapter)}
        for c in claims
        if c.source == source
    ]
    return pd.DataFrame(rows).set_index("claim")


def _title(chapter: str) -> str:
    """Title of the chapter NN_name, its first heading."""
    lines = (NOTEBOOKS / f"{chapter}.md").read_text("utf-8").splitlines()
    return next(line[2:] for line in lines if line.startswith("# "))


def probe_by_method(claim: Claim) -> pd.DataFrame:
    """``probe_on_found`` by each method of clustering, in a claim's own setting.

    Returns
    -------
    DataFrame of text, a row for each method: accuracy on test, its standard error over test images (that of a
    single network: of independent images the standard deviation of their mean), how far the accuracy lies
    above the published number less its margin, and the verdict on it alone, its p-value not adjusted.
    """
    runs = experiment_runs(claim.own, {})
    rows = []
    for method, title in evaluation.METHOD_NAMES.items():
        found = _reconstruction(runs, method, "probe")
        if found is None:
            continue
        images = evaluation.count_images(runs[0], "test")
        row = {"data": claim.own, "method": title, "accuracy": f"{found.value:.4f}"}
        row[f"above {claim.bound:g} - {claim.margin:g} by"] = (
            f"{found.value - claim.bound + claim.margin:+.4f}"
        )
        row["standard error over images"] = f"{np.sqrt(found.value * (1 - found.value) / images):.4f}"
        row["verdict by this method"] = verdict(found, claim.bound, claim.margin)
        rows.append(row | {"seeds": str(found.seeds), "n test": f"{images:,}"})
    table = pd.DataFrame(rows, columns=None if rows else ["data", "method"])
    return table.set_index(["data", "method"])


def gains_in_words(runs: Sequence[Run], plain: Sequence[Run]) -> str:
    """``gain`` and ``worst_gain`` by L2 normalisation, in a sentence."""
    found = {
        "of the softmax score": gain(runs, plain, "softmax"),
        "of its lowest over seeds": worst_gain(runs, plain, "softmax"),
        "of a Gaussian mixture": gain(runs, plain, "gmm"),
    }
    gains = ", ".join(f"{name} by {_with_interval(each, '+.3g')}" for name, each in found.items() if each)
    seeds = len(statistics.paired_by_seed(runs, plain))
    return fill(f"L2 normalisation changes the AUROC {gains}; {seeds} seeds.", 100)


def tally(table: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict is given, in the sources' own settings and in others."""
    counts = pd.crosstab(table["verdict"], table["setting"].replace("-", "none"))
    return counts.reindex([v for v in VERDICTS if v in counts.index])


def shown(table: pd.DataFrame) -> object:
    """A table of text to display."""
    from IPython.display import HTML

    return HTML(table.to_html(classes="claims", border=0))


def _described(found: Found) -> dict[str, str]:
    row = {"ours": _with_interval(found), "nothing": f"{found.null:.3g}", "seeds": str(found.seeds)}
    if found.reference is not None:
        row["reference"] = f"{found.reference:.3g}"
    if found.size is not None:
        row["effect size"] = f"{found.size:+.3g}"
        if found.deviation:
            row["effect size"] += f" (d = {found.size / found.deviation:.1f})"
    if found.p is not None:
        row["p (Holm)"] = f"{found.p:.2g}"
    return row


def _with_interval(found: Found, form: str = ".3g") -> str:
    interval = f" ({found.low:{form}} to {found.high:{form}})" if found.low < found.high else ""
    return f"{found.value:{form}}{interval}"


def _provenance(runs: Sequence[Run]) -> dict[str, str]:
    samples = (evaluation.count_images(runs[0], split) for split in ("train", "test"))
    return {
        "n train / test": " / ".join(f"{n:,}" for n in samples),
        "commit": ", ".join(sorted({tables.short_commit(run.provenance["commit"]) for run in runs})),
    }


def _mean(
    values: Sequence[float], null: float, limits: statistics.Limits = statistics.UNLIMITED
) -> Found | None:
    """Mean over seeds, its interval cut at what is possible; None of no seeds."""
    if not values:
        return None
    mean, below, above = statistics.error_bar(values, limits)
    found = Found(mean, min(values), max(values), null, len(values), size=mean - null)
    values = np.asarray(values)
    if len(values) < statistics.FEWEST or not statistics.differ(values):
        return found
    p = float(ttest_1samp(values, null).pvalue)
    deviation = float(values.std(ddof=1))
    return found._replace(low=mean - below, high=mean + above, p=p, deviation=deviation)


def _mean_ratio(ratios: Sequence[float]) -> Found | None:
    """Geometric mean over seeds of ratios, which are 1 if there is nothing; the size is its logarithm."""
    found = _mean(np.log(ratios).tolist(), null=0)
    return found and _scaled(found, np.exp)


def _scaled(found: Found, change: Callable[[float], float]) -> Found:
    """The same on another, ascending scale."""
    values = {name: float(change(getattr(found, name))) for name in ("value", "low", "high", "null")}
    return found._replace(**values)


def _counted(number: int, seeds: int) -> Found:
    """How many runs or settings there are."""
    return Found(number, number, number, null=0, seeds=seeds, count=True)


def probe_on_found(runs: Sequence[Run], _: str) -> Found | None:
    """Accuracy on test of a probe trained on pseudo-labels of t-SNE and k-means."""
    return _reconstruction(runs, "tsne-kmeans", "probe")


def found_again(runs: Sequence[Run], _: str) -> Found | None:
    """Reconstruction accuracy of k-means on train; the reference is that of pixels."""
    found = _reconstruction(runs, "kmeans", "train")
    return found and found._replace(reference=evaluation.results(runs[0])["pixels"]["kmeans"])


def _reconstruction(runs: Sequence[Run], method: str, key: str) -> Found | None:
    results = [evaluation.results(run, methods=(method,)) for run in runs]
    results = [result for result in results if method in result["reconstruction"]]
    values = [result["reconstruction"][method][key] for result in results]
    by_chance = "chance" if key == "train" else "chance_test"  # a probe is judged on test
    chance = float(np.mean([result[by_chance] for result in results] or [0]))
    return _mean(values, chance, statistics.SHARE)


def settings(runs: Sequence[Run], _: str) -> Found:
    """Of the nine learning rates and weight decays, those that were run with cross entropy."""
    plain = [r.config for r in runs if r.config.loss == "cross-entropy" and not r.config.held_out]
    done = {(c.lr, c.weight_decay) for c in plain} & set(GRID)
    return _counted(len(done), seeds=len({c.seed for c in plain}))


def seeds(runs: Sequence[Run], _: str) -> Found:
    """How many seeds."""
    number = len({run.config.seed for run in runs})
    return _counted(number, seeds=number)


def explained(runs: Sequence[Run], split: str) -> Found | None:
    """Share of the variance inside super-classes that the fine classes explain.

    The reference is the most that they explain at initialisation and in pixels.
    """
    values = [evaluation.mean_explained_variance(run, split) for run in runs]
    found = _mean(values, SOME, statistics.UP_TO_ONE)
    return found and found._replace(reference=explained_elsewhere(runs, split))


def labels_apart(runs: Sequence[Run], _: str) -> Found | None:
    """Relative distance between super-classes over that of siblings."""
    pairs = [(distances_of(run.moments("train")), run.grouping.fine_to_coarse) for run in runs]
    found = [distance_heatmaps.contrasts(*pair) for pair in pairs]
    return _mean_ratio([each["others"] / each["siblings"] for each in found])


def tsne_purity(runs: Sequence[Run], _: str) -> Found | None:
    """k-NN label agreement in the t-SNE plane, of runs that have one and whose labels are known.

    The reference is the most of that in pixels and in features at initialisation.
    """
    found, chance, others = [], 0.0, []
    for run in runs:
        fine = labels_of_test(run)
        if fine is None or (run.released and run.embedding is None):
            continue
        coarse = run.grouping.coarse(fine)
        found.append(float(neighbour_purity(evaluation.embedding(run), fine, coarse).mean()))
        chance = float(purity_by_chance(fine, coarse).mean())
        everything = neighbours(run)["test"]["all"]
        others += [everything["untrained"], everything["pixels"]]
    result = _mean(found, chance, statistics.SHARE)
    return result and result._replace(reference=max(others))


def msdr_correlation(runs: Sequence[Run], _: str) -> Found:
    """Correlation over classes of MSDR on train with the accuracy of the probe on test."""
    classes = averaged_over_seeds(per_class(run) for run in runs)
    found = correlation(classes["msdr_train"], classes["probe"], classes["super-class"])
    return Found(found.r, found.low, found.high, null=0, seeds=len(runs), p=found.p_restricted, size=found.r)


def fall(runs: Sequence[Run], key: str) -> Found | None:
    """How many times smaller a measure is in the terminal phase, its median there, than at its start.

    Of several measures whose names begin with the key, the one that falls least.
    """
    names = [name for name in COLLAPSE_NAMES if name.startswith(key)]
    return _mean_ratio(
        [
            min(rows[0][name] / np.median([row[name] for row in rows[1:]]) for name in names)
            for rows in _terminal_rows(runs)
        ]
    )


def alike(runs: Sequence[Run], _: str) -> Found | None:
    """Share of train images at the end on which classifier and nearest class mean agree."""
    return _mean([1 - rows[-1]["nc4"] for rows in _terminal_rows(runs)], 0, statistics.SHARE)


def _terminal_rows(runs: Sequence[Run]) -> list[list[Mapping[str, float]]]:
    """Measures on train at all measured epochs of the terminal phase, of runs that have two or more."""
    found = []
    for run in runs:
        begin = evaluation.terminal_epoch([run])
        rows = of_split(evaluation.measures(run), "train")
        found.append([row for row in rows if begin is not None and row["epoch"] >= begin])
    return [rows for rows in found if len(rows) > 1]


def fallen_in_words(runs: Sequence[Run]) -> str:
    """In how many runs each measure of collapse is lower at the end than at initialisation."""
    ends = [_ends(run) for run in runs]
    counts = {
        name: sum(last[key] < first[key] for first, last in ends)
        for key, name in COLLAPSE_NAMES.items()
        if key != "accuracy"
    }
    lines = [f"  {name}: {fallen}" for name, fallen in counts.items()]
    return "\n".join([f"Lower at the end than at initialisation, of {len(ends)} released runs:", *lines])


def least_fall(runs: Sequence[Run], _: str) -> Found | None:
    """How many times smaller a term of the NC loss ends than it starts, of the one that falls least."""
    ends = [_ends(run) for run in runs]
    return _mean_ratio([min(first[term] / last[term] for term in NC_TERMS) for first, last in ends])


def _ends(run: Run) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Measures on train at initialisation and at the end."""
    rows = of_split(evaluation.measures(run), "train")
    return rows[0], rows[-1]


def share_of_normal(runs: Sequence[Run], normal: Sequence[Run], _: str) -> Found | None:
    """Accuracy by pseudo-labels over that of the network of the same seed that was trained on fine labels."""
    pairs = statistics.paired_by_seed(runs, normal)
    found = [(probe_on_found([run], ""), usual.history[-1]["test_accuracy"]) for run, usual in pairs]
    found = [(probe, usual) for probe, usual in found if probe is not None]
    null = float(np.mean([probe.null / usual for probe, usual in found] or [0]))
    return _mean([probe.value / usual for probe, usual in found], null)


def earlier(runs: Sequence[Run], plain: Sequence[Run], _: str) -> Found | None:
    """NC1 of the super-classes in ``plain`` over that in ``runs``, after a tenth of the epochs."""
    return _mean_ratio([early_nc1(b) / early_nc1(a) for a, b in statistics.paired_by_seed(runs, plain)])


def gain(runs: Sequence[Run], plain: Sequence[Run], key: str) -> Found | None:
    """By how much the AUROC for held-out classes is higher in ``runs`` than in ``plain``."""
    return _mean(
        [held_out_auroc(a, key) - held_out_auroc(b, key) for a, b in statistics.paired_by_seed(runs, plain)],
        null=0,
    )


def worst_gain(runs: Sequence[Run], plain: Sequence[Run], key: str) -> Found | None:
    """The same for the lowest AUROC over seeds that both have. An extreme of few has no interval."""
    if not (pairs := statistics.paired_by_seed(runs, plain)):
        return None
    change = float(
        np.subtract(*np.min([[held_out_auroc(run, key) for run in pair] for pair in pairs], axis=0))
    )
    return Found(change, change, change, null=0, seeds=len(pairs), size=change)


def held_out_auroc(run: Run, score: str) -> float:
    """AUROC of a score of ``nclib.measures.ood_scores`` for the test images of classes that training never
    saw."""
    names = {"outliers": "held-out classes", "score": score}
    names["labels"] = LABELLINGS[0] if score in CLASS_SCORES else "none"
    if "detection" in run.results:
        (row,) = (row for row in run.results["detection"] if names.items() <= row.items())
        return row["auroc"]
    train, test = run.features("train"), run.features("test")
    images = load(run.config.dataset).test.of_classes(run.config.held_out).images
    labels = train.coarse if score in CLASS_SCORES else None
    within, beyond = (
        outlier_scores(train, h, labels, [score])[score] for h in (test.h, features_of(run.model(), images))
    )
    return detection_of(within, beyond)["auroc"]


MEASURES: dict[str, Callable[[Sequence[Run], str], Found | None]] = {
    measure.__name__: measure
    for measure in (
        probe_on_found,
        found_again,
        settings,
        seeds,
        explained,
        labels_apart,
        tsne_purity,
        msdr_correlation,
        fall,
        alike,
        least_fall,
    )
}
PAIRED: dict[str, Callable[[Sequence[Run], Sequence[Run], str], Found | None]] = {
    measure.__name__: measure for measure in (share_of_normal, earlier, gain, worst_gain)
}
