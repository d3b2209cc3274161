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
from nclib.chapters.statistics import interval
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


def initial_accuracy(run: Run) -> float:
    """Reconstruction accuracy on train of k-means on the features at initialisation."""
    return remembered(run, _initial_accuracy)


def _initial_accuracy(run: Run) -> float:
    f = untrained(run, "train")
    return match_labels(reconstruct_labels(f.h, f.coarse, fine_per_coarse(run), "kmeans"), f.fine).accuracy


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

    def gain(self, over: str) -> float:
        """By how much features do better than another space; mean over methods."""
        return float(np.mean([of["features"] - of[over] for of in self.accuracy.values()]))

    def beyond_kmeans(self) -> float:
        """By how much the other methods do better than k-means on average."""
        found = {method: of["features"] for method, of in self.accuracy.items()}
        return float(np.mean([found[m] for m in found if m != "kmeans"]) - found["kmeans"])


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
    initial: Sequence[float],
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
    Where a statement is about one method, it is t-SNE + k-means, which all runs have. Means over methods
    are over those that all seeds of a name have.
    """
    n_train = {name: int(np.sum(_tsne(of[0])["confusion"])) for name, of in results.items()}

    def cases(effect: Callable[[Results, Sequence[str]], float], n: Mapping[str, int]) -> list[Case]:
        shared = {name: [m for m in METHOD_NAMES if all(m in r["reconstruction"] for r in of)]
                  for name, of in results.items()}  # fmt: skip
        return [Case(name, [effect(r, shared[name]) for r in of], n[name]) for name, of in results.items()]

    def here(effect: Callable[[Opened], float], suffix: str = "") -> list[Case]:
        return [Case(opened.name + suffix, [effect(opened)], opened.n)] if opened else []

    against_start = (
        [
            Case(
                f"{live}, against initialisation",
                [_train(r, ["kmeans"]) - at for r, at in zip(results[live], initial, strict=True)],
                n_train[live],
            )
        ]
        if initial
        else []
    )
    found = [
        Statement(
            "Clustering inside super-classes recovers many more fine labels than guessing",
            "reconstruction accuracy of t-SNE + k-means on train, or on the named images, minus that of"
            " random pseudo-labels",
            [
                *cases(lambda r, _: _tsne(r)["train"] - r["chance"], n_train),
                *here(lambda of: of.accuracy["tsne-kmeans"]["features"] - of.chance),
            ],
            above=ABOVE_CHANCE,
        ),
        Statement(
            "Training on coarse labels makes the fine classes easier to cluster",
            "reconstruction accuracy on train, or on the named images, minus that of pixels (mean over"
            " methods) or of features at initialisation (k-means on train)",
            [
                *cases(lambda r, methods: _train(r, methods) - _pixels(r, methods), n_train),
                *against_start,
                *here(lambda of: of.gain("pixels")),
                *here(lambda of: of.gain("untrained"), ", against initialisation"),
            ],
        ),
        Statement(
            "k-means recovers less than the other methods do on average",
            "reconstruction accuracy on train, or on the named images, mean of the other methods minus"
            " k-means",
            [
                *cases(
                    lambda r, ms: _train(r, [m for m in ms if m != "kmeans"]) - _train(r, ["kmeans"]), n_train
                ),
                *here(Opened.beyond_kmeans),
            ],
        ),
        Statement(
            "A linear probe trained on pseudo-labels is nearly as accurate as one trained on true labels",
            "test accuracy of the probe on pseudo-labels (t-SNE + k-means), minus that on true labels",
            cases(lambda r, _: _tsne(r)["probe"] - r["probe"], n_test),
            above=-CLOSE,
        ),
    ]
    if all_labels:
        lost = [_tsne(r)["probe"] - at for r, at in zip(results[live], all_labels, strict=True)]
        found.append(
            Statement(
                "A probe on pseudo-labels is nearly as accurate as the same network trained on all labels",
                "test accuracy of the probe on pseudo-labels (t-SNE + k-means), minus that of the network",
                [Case(live, lost, n_test[live])],
                above=-CLOSE,
            )
        )
    return found


def _tsne(result: Results) -> Mapping[str, Any]:
    return result["reconstruction"]["tsne-kmeans"]


def _train(result: Results, methods: Sequence[str]) -> float:
    return float(np.mean([result["reconstruction"][m]["train"] for m in methods]))


def _pixels(result: Results, methods: Sequence[str]) -> float:
    return float(np.mean([result["pixels"][m] for m in methods]))


@theme()
def reconstruction_figure(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Axes:
    """Reconstruction accuracy on train by method, beside that of pixels and chance.

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
            mean, half = interval(r["train"] for r in found)
            height, color = at + 0.2 * (number - 1.5), f"C{number}"
            axes.errorbar(mean, height, xerr=half, fmt=MARKERS[number], color=color, capsize=3, ms=6)
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
def confusion_figure(matrix: ArrayLike, grouping: Grouping, title: str = "") -> Axes:
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
    axes.set_title(title or "Confusion of true classes and pseudo-labels")
    diagonal = np.diag(counts) / counts.sum(1)
    worst = int(np.argmin(diagonal))
    text = f"Confusion matrix; the lowest accuracy is that of {names[worst]}, {diagonal[worst]:.2f}."
    return described(axes, text)
