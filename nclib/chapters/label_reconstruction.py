"""Chapter 5: label reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import INK, MARKERS, by_super_class, described, draw_edges, theme
from nclib.chapters.neural_collapse import of_split
from nclib.chapters.statistics import SHARE, error_bar
from nclib.chapters.tables import LARGER, SPACES
from nclib.data.grouping import Grouping
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.networks.features import FeatureSet
from nclib.runs.baselines import untrained
from nclib.runs.evaluation import METHOD_NAMES, fine_per_coarse
from nclib.runs.remember import remembered
from nclib.runs.run import Run

RELEASED = (*LARGER, "fashion-narrow-cross-entropy-*")
ABOVE_CHANCE = 0.1  # reconstruction accuracy; bounds are our choice, one for all data
Results = Mapping[str, Any]  # of ``nclib.runs.evaluation.results``


def initial_accuracy(run: Run) -> dict[str, float]:
    """Reconstruction accuracy on train of the features at initialisation, by method."""
    return {method: remembered(run, _initial_accuracy, method) for method in METHOD_NAMES}


def _initial_accuracy(run: Run, method: str) -> float:
    f = untrained(run, "train")
    return match_labels(reconstruct_labels(f.h, f.coarse, fine_per_coarse(run), method), f.fine).accuracy


@dataclass(frozen=True)
class Opened:
    """What the page computes of the images that it opens on.

    Attributes
    ----------
    name : of the run and the images.
    accuracy : of ``by_space``.
    chance : accuracy of random pseudo-labels.
    n : images.
    """

    name: str
    accuracy: Mapping[str, Mapping[str, float]]
    chance: float
    n: int


def by_space(spaces_of: Mapping[str, FeatureSet], k: Sequence[int]) -> dict[str, dict[str, float]]:
    """Reconstruction accuracy by method and by space, of the same images.

    Parameters
    ----------
    spaces_of : of ``nclib.runs.baselines.spaces``.
    k : clusters in every super-class.
    """
    return {
        method: {
            space: match_labels(reconstruct_labels(f.h, f.coarse, k, method), f.fine).accuracy
            for space, f in spaces_of.items()
        }
        for method in METHOD_NAMES
    }


def spaces_table(accuracy: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """``by_space`` with titles."""
    table = pd.DataFrame(accuracy).T.rename(index=METHOD_NAMES, columns=SPACES)
    return table.map("{:.3f}".format)


def statements(
    results: Mapping[str, Sequence[Results]],
    n_test: Mapping[str, int],
    live: str,
    initial: Sequence[Mapping[str, float]],
    all_labels: Sequence[float],
    opened: Opened | None = None,
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    results : a list for each name, one entry a seed.
    n_test : test images, by the same names.
    live : the name of the page's own runs.
    initial : ``initial_accuracy`` of each of them; empty where it was not measured.
    all_labels : test accuracy of the same network trained on all fine labels, for the same seeds; empty
        where it was not trained.
    opened : of the run that the page opens on.

    Notes
    -----
    Where a statement compares spaces or methods it has a case for each method, from the seeds that have it:
    methods disagree, so that one of them, or a mean over some, would decide. Other statements are about
    t-SNE + k-means, which all runs have.
    """
    n_train = {name: int(np.sum(_tsne(of[0])["confusion"])) for name, of in results.items()}

    def cases(effect: Callable[[Results], float], n: Mapping[str, int]) -> list[Case]:
        return [Case(name, [effect(r) for r in of], n[name]) for name, of in results.items()]

    def by_method(effect: Callable[[Results, str], float], methods: Sequence[str]) -> list[Case]:
        """Of every name and method, from the seeds that have the method."""
        having = {
            (name, m): [r for r in of if m in r["reconstruction"]]
            for name, of in results.items()
            for m in methods
        }
        return [
            Case(f"{name}, {METHOD_NAMES[m]}", [effect(r, m) for r in of], n_train[name])
            for (name, m), of in having.items()
            if of
        ]

    def here(effect: Callable[[Mapping[str, float]], float], methods: Sequence[str]) -> list[Case]:
        """Of the images that the page opens on, by method; nothing where there are none."""
        found = opened.accuracy if opened else {}
        return [
            Case(f"{opened.name}, {METHOD_NAMES[m]}", [effect(found[m])], opened.n)
            for m in methods
            if m in found
        ]

    methods = list(METHOD_NAMES)
    others = [m for m in methods if m != "kmeans"]
    found = [
        Statement(
            "t-SNE and k-means inside super-classes recover many more fine labels of train than guessing",
            "reconstruction accuracy of t-SNE + k-means on train, or on the named images, minus that of"
            " random pseudo-labels",
            [
                *cases(lambda r: _tsne(r)["train"] - r["chance"], n_train),
                *here(lambda of: of["features"] - opened.chance, ["tsne-kmeans"]),
            ],
            above=ABOVE_CHANCE,
        ),
        Statement(
            "Fine classes are easier to cluster in the trained features than in the pixels",
            "reconstruction accuracy on train, or on the named images, features minus pixels, by method",
            [
                *by_method(lambda r, m: _train(r, m) - r["pixels"][m], methods),
                *here(lambda of: of["features"] - of["pixels"], methods),
            ],
        ),
        Statement(
            "Training on coarse labels makes the fine classes easier to cluster than at initialisation",
            "reconstruction accuracy on train, or on the named images, trained features minus those at"
            " initialisation, by method; of long runs k-means on test",
            [
                *(
                    Case(
                        f"{live}, {METHOD_NAMES[m]}",
                        [_train(r, m) - at[m] for r, at in zip(results[live], initial, strict=True)],
                        n_train[live],
                    )
                    for m in methods
                    if initial and all(m in r["reconstruction"] for r in results[live])
                ),
                *_from_initialisation(results, n_test),
                *here(lambda of: of["features"] - of["untrained"], methods),
            ],
        ),
        Statement(
            "k-means recovers less than other methods do",
            "reconstruction accuracy on train, or on the named images, the named method minus k-means",
            [
                *by_method(lambda r, m: _train(r, m) - _train(r, "kmeans"), others),
                *here(lambda of: of["features"] - opened.accuracy["kmeans"]["features"], others),
            ],
        ),
        Statement(
            f"The accuracy of a linear probe on pseudo-labels is less than {CLOSE:g} below that of one on"
            " true labels",
            "test accuracy of the probe on pseudo-labels (t-SNE + k-means), minus that on true labels",
            cases(lambda r: _tsne(r)["probe"] - r["probe"], n_test),
            above=-CLOSE,
        ),
    ]
    if all_labels:
        lost = [_tsne(r)["probe"] - at for r, at in zip(results[live], all_labels, strict=True)]
        found.append(
            Statement(
                f"The accuracy of a probe on pseudo-labels is less than {CLOSE:g} below that of the same"
                " network trained on all labels",
                "test accuracy of the probe on pseudo-labels (t-SNE + k-means), minus that of the network",
                [Case(live, lost, n_test[live])],
                above=-CLOSE,
            )
        )
    return [statement for statement in found if statement.cases]


def _from_initialisation(results: Mapping[str, Sequence[Results]], n_test: Mapping[str, int]) -> list[Case]:
    """k-means on test at the end minus at initialisation, of the runs that were clustered at both."""
    cases = []
    for name, of in results.items():
        starts = [(r, of_split(r["measures"], "test")[0]) for r in of if "measures" in r]
        gains = [
            r["reconstruction"]["kmeans"]["test"] - start["kmeans"]
            for r, start in starts
            if "kmeans" in start
        ]
        if gains:
            cases.append(Case(f"{name}, test, {METHOD_NAMES['kmeans']}", gains, n_test[name]))
    return cases


def _tsne(result: Results) -> Mapping[str, Any]:
    return result["reconstruction"]["tsne-kmeans"]


def _train(result: Results, method: str) -> float:
    return result["reconstruction"][method]["train"]


@theme()
def reconstruction_figure(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Reconstruction accuracy on train by method, beside that of pixels and chance; bars of ``error_bar``.

    Parameters
    ----------
    results : a list of ``nclib.runs.evaluation.results`` for each name, one entry a seed.
    """
    _, axes = plt.subplots(figsize=(7.5, 0.9 + 1.1 * len(results)), layout="constrained")
    words = []
    for at, (name, of_seeds) in enumerate(results.items()):
        for number, (method, title) in enumerate(METHOD_NAMES.items()):
            found = [r["reconstruction"][method] for r in of_seeds if method in r["reconstruction"]]
            if not found:
                continue
            mean, *bar = error_bar((r["train"] for r in found), SHARE)
            height, color = at + 0.2 * (number - 1.5), f"C{number}"
            axes.errorbar(
                mean, height, xerr=[[b] for b in bar], fmt=MARKERS[number], color=color, capsize=3, ms=6
            )
            of_pixels = next(r["pixels"][method] for r in of_seeds if method in r["reconstruction"])
            axes.plot(of_pixels, height, MARKERS[number], color=color, mfc="none", ms=6)
            words.append(f"{name}: {title} {mean:.3f}")
        axes.plot([of_seeds[0]["chance"]] * 2, [at - 0.4, at + 0.4], color="0.4", ls=":")
    axes.set_yticks(range(len(results)), results)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set(xlim=(None, 1.01), xlabel="reconstruction accuracy, train")
    axes.set_title("Fine labels reconstructed by clustering inside super-classes (dotted: chance)")
    keys = [plt.Line2D([], [], marker=MARKERS[n], color=f"C{n}", ls="") for n in range(len(METHOD_NAMES))]
    keys.append(plt.Line2D([], [], marker="o", color=INK, mfc="none", ls=""))
    names = [*METHOD_NAMES.values(), "hollow: pixels"]
    axes.legend(keys, names, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    return described(axes, f"Reconstruction accuracy on train. {'; '.join(words)}.")


@theme()
def confusion_figure(matrix: ArrayLike, grouping: Grouping) -> Axes:
    """True classes against matched pseudo-labels, as shares of each true class, ordered by super-class."""
    order, edges = by_super_class(grouping)
    counts = np.asarray(matrix)[np.ix_(order, order)]
    names = [grouping.fine_names[fine] for fine in order]
    _, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    sns.heatmap(
        counts / counts.sum(1, keepdims=True), vmin=0, vmax=1, cmap="mako_r", square=True, annot=True,
        fmt=".2f", annot_kws={"fontsize": 7}, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "share of the true class"}, ax=axes,
    )  # fmt: skip
    draw_edges(axes, edges)
    axes.set(xlabel="matched pseudo-label", ylabel="true class")
    axes.set_title("Confusion of true classes and pseudo-labels")
    diagonal = np.diag(counts) / counts.sum(1)
    worst = int(np.argmin(diagonal))
    text = f"Confusion matrix; the lowest accuracy is that of {names[worst]}, {diagonal[worst]:.2f}."
    return described(axes, text)
