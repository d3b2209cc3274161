"""The long runs: what was released of their sweeps, and how structure rises and falls in it.

trajectory_figure(released_experiments()["cifar10-laptop"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from nclib.chapters.conclusions import CLOSE, Case, Statement
from nclib.chapters.figures import SHADE, WIDTH, described, epochs_axis, theme
from nclib.chapters.neural_collapse import of_split
from nclib.chapters.statistics import over_seeds
from nclib.chapters.tables import network, short_commit
from nclib.config import RunConfig
from nclib.data.datasets import FOLLOWED
from nclib.measures.moments import Moments
from nclib.measures.significance import explained_variance_null, holm
from nclib.paths import WORKFLOW
from nclib.runs.evaluation import (
    METHOD_NAMES,
    TERMINAL_ACCURACY,
    chance_of,
    coarse_nc1,
    count_images,
    fine_per_coarse,
    mean_explained_variance,
    terminal_epoch,
)
from nclib.runs.released import ReleasedRun, released_runs
from nclib.runs.run import Run
from nclib.runs.sweep_table import folder_name, read_sweep

SWEEPS = ("paper", "evidence")  # in ``workflow``; whose runs are shown, in this order
FACTORIAL = "fashion-factorial"  # how the names of the runs begin that ``nclib.chapters.factorial`` shows
PANELS = {  # measure: title, scale of its axis
    "accuracy": ("coarse accuracy", "linear"),
    "explained_variance": ("explained variance", "linear"),
    "kmeans": ("found by k-means", "linear"),
    "nc1": ("NC1", "log"),
}
DRAWS = 40  # of features without structure, of each kind for each run
PERMUTED, RESAMPLED = "labels permuted", "samples drawn again"  # columns of ``level_table``
SMALLEST_P = 1e-6  # that is shown: tails further out are the approximation's
STYLES = {"train": "-", "test": "--"}


@cache
def planned_runs() -> dict[RunConfig, str]:
    """Name of the released folder of every run of the sweeps, in their order."""
    sweeps = [read_sweep(WORKFLOW / f"{name}.yaml") for name in SWEEPS]
    return {config: folder_name(run) for sweep in sweeps for run, config in sweep.runs}


def runs_of_sweeps() -> dict[str, list[ReleasedRun | None]]:
    """What was released of each experiment of the sweeps, None for a seed that was not."""
    released = {run.config: run for run in released_runs()}
    found: dict[str, list[ReleasedRun | None]] = {}
    for config, name in planned_runs().items():
        found.setdefault(name.rpartition("-seed")[0], []).append(released.get(config))
    return found


def released_experiments() -> dict[str, list[ReleasedRun]]:
    """Released runs of the sweeps by experiment; several of one are seeds. Without the factorial's."""
    return {
        name: [run for run in runs if run]
        for name, runs in runs_of_sweeps().items()
        if any(runs) and not name.startswith(FACTORIAL)
    }


def _listed() -> dict[str, list[ReleasedRun | None]]:
    """``runs_of_sweeps``, the settings of the factorial as one."""
    found: dict[str, list[ReleasedRun | None]] = {}
    for name, runs in runs_of_sweeps().items():
        found.setdefault(FACTORIAL if name.startswith(FACTORIAL) else name, []).extend(runs)
    return found


def with_trajectory(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> dict[str, list[ReleasedRun]]:
    """Those of the runs that were clustered at every measured epoch, not only at the end."""
    found = {
        name: [run for run in runs if "kmeans" in run.results["measures"][0]]
        for name, runs in runs_of.items()
    }
    return {name: runs for name, runs in found.items() if runs}


def with_tsne(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> dict[str, list[ReleasedRun]]:
    """Those of the runs on super-classes that were clustered after t-SNE too."""
    joined = {name: runs for name, runs in runs_of.items() if max(fine_per_coarse(runs[0])) > 1}
    found = {
        name: [run for run in runs if "tsne-kmeans" in run.results["reconstruction"]]
        for name, runs in joined.items()
    }
    return {name: runs for name, runs in found.items() if runs}


def sweeps_table() -> pd.DataFrame:
    """A row for each experiment of the sweeps that was released: hours, and the machine that took them."""
    rows = [_sweeps_row(name, runs) for name, runs in _listed().items() if any(runs)]
    return pd.DataFrame(rows, columns=None if rows else ["experiment"]).set_index("experiment")


def not_run_yet() -> str:
    """The experiments of the sweeps of which nothing was released; of some, other seeds were before."""
    names = [
        f"more seeds of {name}" if released_runs(f"{name}-seed*") else name
        for name, runs in _listed().items()
        if not any(runs)
    ]
    return fill(f"Not run yet: {', '.join(names)}", 72, break_on_hyphens=False)


def _sweeps_row(name: str, of_name: Sequence[ReleasedRun | None]) -> dict[str, str]:
    runs = [run for run in of_name if run]
    made = [run.provenance for run in runs]
    clustered = [run.record.get("released", {}) for run in runs]  # early ones do not say
    return {
        "experiment": name,
        "released": f"{len(runs)} of {len(of_name)}",
        "hours": over_seeds((each["seconds"] / 3600 for each in made), "{:.2g}"),
        "threads": ", ".join(sorted({str(each["threads"]) for each in made})),
        "device": ", ".join(sorted({each["device"] for each in made})),
        "clustered on": ", ".join(sorted({each.get("device", "-") for each in clustered})),
        "commit": ", ".join(sorted({short_commit(each["commit"]) for each in made})),
    }


def rise_and_fall_table(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> pd.DataFrame:
    """Explained variance and k-means on test at the start, at the peak of the former and at the end.

    A cell is the mean over seeds, with the lowest and the highest in brackets.
    """
    rows = []
    for name, runs in runs_of.items():
        if "explained_variance" not in runs[0].results["measures"][0]:
            continue  # trained on its fine classes: nothing is inside them
        of_runs = [of_split(run.results["measures"], "test") for run in runs]
        peaks = [max(rows, key=lambda row: row["explained_variance"]) for rows in of_runs]
        config = runs[0].config
        row = {"experiment": name, "seeds": str(len(runs)), "schedule": config.schedule}
        row |= {"width": str(config.width), "augmentation": config.augment}
        for when, chosen in (
            ("start", [rows[0] for rows in of_runs]),
            ("peak", peaks),
            ("end", [rows[-1] for rows in of_runs]),
        ):
            for measure, title in (("explained_variance", "explained"), ("kmeans", "k-means")):
                row[f"{title}, {when}"] = over_seeds((each[measure] for each in chosen), "{:.2f}")
        row["peak at epoch"] = over_seeds((each["epoch"] for each in peaks), "{:.0f}")
        begins = [terminal_epoch([run]) for run in runs]
        reached = [begin for begin in begins if begin is not None]
        row["first measured at 99.9 % of train"] = (
            f"{over_seeds(reached, '{:.0f}')} of {config.epochs}" if reached else "not reached"
        ) + (f"; not reached by {len(runs) - len(reached)}" if 0 < len(reached) < len(runs) else "")
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["experiment"]).set_index("experiment")


def milestones_table(runs_of: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Explained variance and its null at the start, at the peak, at 99.9 % train accuracy and at the end.

    "explained" is the mean over super-classes and seeds, with the lowest and the highest seed in brackets;
    "by chance", the largest mean share of a split and seed that equal means exceed in one of twenty cases;
    p, the largest of all super-classes, splits and seeds, adjusted for the number of super-classes (Holm).
    Peaks are those of test.
    """
    rows = []
    for name, runs in runs_of.items():
        if max(fine_per_coarse(runs[0])) == 1:
            continue  # trained on its fine classes: nothing is inside them
        when = {
            "start": [run.measured_epochs[0] for run in runs],
            "peak": [_peak(run) for run in runs],
            f"{TERMINAL_ACCURACY:.1%} of train": [terminal_epoch([run]) for run in runs],
            "end": [run.measured_epochs[-1] for run in runs],
        }
        rows += [{"runs": name, "when": title} | _milestone(runs, epochs) for title, epochs in when.items()]
    table = pd.DataFrame(rows, columns=None if rows else ["runs", "when"])
    return table.set_index(["runs", "when"]).fillna("-")


def _peak(run: Run) -> int:
    return max(run.measured_epochs, key=lambda epoch: mean_explained_variance(run, "test", epoch))


def _milestone(runs: Sequence[Run], epochs: Sequence[int | None]) -> dict[str, str]:
    """A row of ``milestones_table``, from the runs that reached it."""
    reached = [(run, epoch) for run, epoch in zip(runs, epochs, strict=True) if epoch is not None]
    row = {"seeds": f"{len(reached)} of {len(runs)}"}
    if not reached:
        return row
    row["epoch"] = over_seeds((epoch for _, epoch in reached), "{:.0f}")
    row["NC1, train"] = over_seeds((coarse_nc1(run, "train", epoch) for run, epoch in reached), "{:.2g}")
    tests = {
        split: [
            explained_variance_null(run.moments(split, epoch), run.grouping.fine_to_coarse)
            for run, epoch in reached
        ]
        for split in STYLES
    }
    for split, found in tests.items():
        row[f"explained, {split}"] = over_seeds((float(t.share.nanmean()) for t in found), "{:.2f}")
    everything = [test for found in tests.values() for test in found]
    row["by chance"] = f"< {max(float(test.null.nanmean()) for test in everything):.1g}"
    p = max(p for test in everything for p in holm(test.p[test.p.isfinite()].tolist()))
    row["p"] = f"{p:.1g}" if p >= SMALLEST_P else f"< {SMALLEST_P:g}"
    return row


def level_table(runs: Sequence[ReleasedRun]) -> pd.DataFrame:
    """How often ``explained_variance_null`` rejects at 5 % where there is nothing to find.

    The gaps between the fine classes of a super-class are taken out of the test features. Then the fine
    labels are permuted inside super-classes, so that only these differ in shape, or the samples of each
    fine class are drawn again with replacement, so that fine classes differ, too.

    Parameters
    ----------
    runs : with test features.

    Returns
    -------
    A row for each run: shares of p-values of at most 0.05, and how many there are of each kind.
    """
    rows = []
    for run in runs:
        f, group = run.features("test"), run.grouping.fine_to_coarse
        found = null_p_values(f.h.to(torch.float64), f.fine, group, DRAWS, np.random.default_rng(0))
        row = {"run": run.folder.name, "p-values": f"{len(found[PERMUTED]):,}"}
        rows.append(row | {kind: f"{np.mean(np.array(p) <= 0.05):.3f}" for kind, p in found.items()})
    return pd.DataFrame(rows).set_index("run")


def null_p_values(
    h: Tensor, fine: Tensor, group: Tensor, draws: int, rng: np.random.Generator
) -> dict[str, list[float]]:
    """P-values of ``explained_variance_null`` for features (N, D) without their gaps, by kind of draw."""
    size = torch.bincount(fine, minlength=len(group)).to(h)[:, None]  # (C, 1)
    sums = h.new_zeros(len(group), h.shape[1]).index_add_(0, fine, h)
    inside = torch.nn.functional.one_hot(group).to(h)  # (C, G)
    centres = (inside.T @ sums) / (inside.T @ size)  # (G, D)
    h = h - (sums / size)[fine] + centres[group[fine]]
    found: dict[str, list[float]] = {PERMUTED: [], RESAMPLED: []}
    members = [torch.nonzero(fine == c).flatten() for c in range(len(group))]
    families = [torch.nonzero(group[fine] == g).flatten() for g in range(int(group.max()) + 1)]
    for _ in range(draws):
        labels = fine.clone()
        for rows in families:
            labels[rows] = fine[rows][torch.from_numpy(rng.permutation(len(rows)))]
        again = torch.cat(
            [rows[torch.from_numpy(rng.integers(len(rows), size=len(rows)))] for rows in members]
        )
        for kind, x, y in ((PERMUTED, h, labels), (RESAMPLED, h[again], fine[again])):
            p = explained_variance_null(Moments.of(x, y, len(group)), group).p
            found[kind] += p[p.isfinite()].tolist()
    return found


def end_of_training_table(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> pd.DataFrame:
    """What clustering finds at the end, by every method, and what probes read.

    A cell is the mean over seeds, with the lowest and the highest in brackets. Probes are tested on true
    labels; the network's own accuracy is on the labels that it was trained on.
    """
    rows = []
    for name, runs in runs_of.items():
        start = {"experiment": name, "seeds": str(len(runs))}
        ends = {
            "accuracy of the network, test": over_seeds(run.history[-1]["test_accuracy"] for run in runs),
            "probe on true labels": over_seeds(run.results["probe"] for run in runs),
            "chance, train": f"{chance_of(runs[0], 'train'):.3f}",
            "chance, test": f"{chance_of(runs[0], 'test'):.3f}",
        }
        if max(fine_per_coarse(runs[0])) == 1:
            rows.append(start | {"method": "none: trained on fine labels"} | ends)
            continue
        for method, title in METHOD_NAMES.items():
            found = [run.results["reconstruction"].get(method) for run in runs]
            if None not in found:
                row = start | {"method": title}
                row |= {
                    f"clusters given the true super-class, {part}": over_seeds(r[part] for r in found)
                    for part in ("train", "test")
                }
                rows.append(row | {"probe on pseudo-labels": over_seeds(r["probe"] for r in found)} | ends)
    table = pd.DataFrame(rows, columns=None if rows else ["experiment", "method"])
    return table.set_index(["experiment", "method"]).fillna("-")


def near_and_far_table(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> pd.DataFrame:
    """Fine structure at the end, from what the whole cloud shows to what neighbours show.

    A row for each experiment and split; a cell is the mean over seeds, with the lowest and the highest in
    brackets.
    """
    rows = []
    for name, runs in with_tsne(runs_of).items():
        for split in STYLES:
            ends = [of_split(run.results["measures"], split)[-1] for run in runs]
            row = {"experiment": name, "split": split}
            row["coarse accuracy"] = over_seeds(end["accuracy"] for end in ends)
            row["NC1"] = over_seeds((end["nc1"] for end in ends), "{:.2g}")
            row["explained variance"] = over_seeds(end["explained_variance"] for end in ends)
            for method in ("kmeans", "tsne-kmeans"):
                found = (run.results["reconstruction"][method][split] for run in runs)
                row[METHOD_NAMES[method]] = over_seeds(found)
            near = [run.results["neighbours"][split]["all"] for run in runs]
            row["neighbours agree"] = over_seeds(each["features"] for each in near)
            row["the same at initialisation"] = over_seeds(each["untrained"] for each in near)
            rows.append(row | {"clusters by chance": f"{chance_of(runs[0], split):.3f}"})
    table = pd.DataFrame(rows, columns=None if rows else ["experiment", "split"])
    return table.set_index(["experiment", "split"])


def told(run: ReleasedRun) -> str:
    """What happens to fine structure in a run, in words."""
    c, results = run.config, run.results
    explained = {
        split: {row["epoch"]: row["explained_variance"] for row in of_split(results["measures"], split)}
        for split in STYLES
    }
    peak, begin = max(explained["test"], key=explained["test"].__getitem__), terminal_epoch([run])
    when = {"at initialisation": 0, f"at epoch {peak}": peak}
    if begin is not None:
        when[f"at epoch {begin}, the first measured one with {TERMINAL_ACCURACY:.1%} of train right,"] = begin
    when["at the end"] = c.epochs
    shares = [f"{' and '.join(f'{explained[s][e]:.0%}' for s in STYLES)} {w}" for w, e in when.items()]
    found = [
        " and ".join(f"{results['reconstruction'][method][split]:.0%}" for split in STYLES)
        for method in ("kmeans", "tsne-kmeans")
    ]
    guessed = " and ".join(f"{chance_of(run, split):.0%}" for split in STYLES)
    return (
        f"{run.folder.name}: {network(c)}, {c.epochs} epochs, one seed. Of the variance "
        f"inside super-classes of train and test, fine classes explain {', '.join(shares[:-1])} and "
        f"{shares[-1]}. Of their labels, k-means finds {found[0]} at the end, t-SNE and k-means {found[1]}, "
        f"guessing {guessed}. Before the end, train is {FOLLOWED:,} of its images. Shaded: "
        f"from {TERMINAL_ACCURACY:.1%} on."
    )


def statements(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> list[Statement]:
    """Whether pseudo-labels replace the true ones, by method, and whether t-SNE finds more of them."""
    joined = {name: runs for name, runs in runs_of.items() if max(fine_per_coarse(runs[0])) > 1}
    by_config = {run.config: run for runs in runs_of.values() for run in runs}
    normal = {
        name: {
            run.config.seed: control.history[-1]["test_accuracy"]
            for run in runs
            if (control := by_config.get(replace(run.config, grouping="none")))
        }
        for name, runs in joined.items()
    }
    true = {name: {run.config.seed: run.results["probe"] for run in runs} for name, runs in joined.items()}
    made = [
        Statement(
            f"The accuracy of a probe on pseudo-labels is less than {CLOSE:g} below that of one on"
            " true labels",
            "accuracy on test, pseudo-labels minus true labels",
            _below(true, joined),
            -CLOSE,
        ),
        Statement(
            f"The accuracy of a probe on pseudo-labels is less than {CLOSE:g} below that of a network that"
            " was trained on all fine labels",
            "accuracy on test, probe minus network",
            _below(normal, joined),
            -CLOSE,
        ),
        Statement(
            "At the end of training t-SNE and k-means find more fine labels than k-means alone, by more than"
            f" {CLOSE:g}",
            "reconstruction accuracy, the former minus the latter",
            _more_by_tsne(runs_of),
            CLOSE,
        ),
    ]
    return [statement for statement in made if statement.cases]


def _below(
    reference: Mapping[str, Mapping[int, float]], runs_of: Mapping[str, Sequence[ReleasedRun]]
) -> list[Case]:
    """The probe on pseudo-labels of each method minus a number by experiment and seed, where both are."""
    cases = []
    for name, runs in runs_of.items():
        for method, title in METHOD_NAMES.items():
            gaps = [
                run.results["reconstruction"][method]["probe"] - reference[name][run.config.seed]
                for run in runs
                if method in run.results["reconstruction"] and run.config.seed in reference[name]
            ]
            if gaps:
                cases.append(Case(f"{name}, {title}", gaps, count_images(runs[0], "test")))
    return cases


def _more_by_tsne(runs_of: Mapping[str, Sequence[ReleasedRun]]) -> list[Case]:
    """Reconstruction accuracy with t-SNE minus that without, by experiment and split."""
    cases = []
    for name, runs in with_tsne(runs_of).items():
        found = [run.results["reconstruction"] for run in runs]
        for split in STYLES:
            gains = [r["tsne-kmeans"][split] - r["kmeans"][split] for r in found]
            cases.append(Case(f"{name}, {split}", gains, count_images(runs[0], split)))
    return cases


@theme()
def trajectory_figure(runs: Sequence[ReleasedRun], title: str = "") -> Axes:
    """Accuracy, explained variance, k-means and NC1 over training, a line for each run and split.

    Shaded: the terminal phase of all runs. On the way "train" is 10,000 of its images, without
    augmentation.
    """
    names = [name for name in PANELS if name in runs[0].results["measures"][0]]
    size = WIDTH * len(names) / len(PANELS), 2.6
    figure, panels = plt.subplots(1, len(names), figsize=size, layout="constrained")
    last, begin = runs[0].config.epochs, terminal_epoch(runs)
    for panel, name in zip(panels, names, strict=True):
        heading, scale = PANELS[name]
        for colour, (split, line) in enumerate(STYLES.items()):
            for number, run in enumerate(runs):
                rows = of_split(run.results["measures"], split)
                label = split if number == 0 else None
                at, value = ([row[key] for row in rows] for key in ("epoch", name))
                panel.plot(at, value, line, color=f"C{colour}", marker=".", label=label)
        if begin is not None:
            panel.axvspan(begin, 2 * last, color=SHADE, lw=0, zorder=0)
        panel.set_title(heading, fontsize="medium")
        panel.set_yscale(scale)
        epochs_axis(panel, last)
        if scale == "linear":
            panel.set_ylim(min(0, panel.get_ylim()[0]), 1.02)
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    figure.supxlabel("epoch (0: at initialisation)", fontsize="medium")
    return described(panels[0], _words(runs[0], begin))


def _words(run: ReleasedRun, begin: int | None) -> str:
    rows = of_split(run.results["measures"], "test")
    parts = [
        f"{PANELS[name][0]} starts at {rows[0][name]:.3g}, is at most {max(r[name] for r in rows):.3g} and "
        f"ends at {rows[-1][name]:.3g}"
        for name in PANELS
        if name in rows[0]
    ]
    phase = f"{TERMINAL_ACCURACY:.1%} of train"
    reached = f"{phase} is not reached" if begin is None else f"{phase} from epoch {begin} on"
    return f"First run, test data: {'; '.join(parts)}. {reached}."
