"""Statements about results that the runs on a page decide.

    conclusions.show(
        Statement(
            "Clustering recovers more fine labels than guessing does",
            effect="reconstruction accuracy above chance",
            cases=[Case("digits, this page", [0.41, 0.43, 0.40], n=1437)],
        ),
    )

A page that is run with other parameters says then what holds there: a statement is printed with a verdict
for each case, its effect, interval, number of seeds and samples. The cell's output also carries these rows
as data, from which the page "All statements" is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from scipy import stats

from nclib.chapters.statistics import FEWEST, differ, interval
from nclib.measures.significance import holm

SIGNIFICANT = 0.05
CLOSE = 0.02  # two accuracies or AUROCs that a statement calls close; our choice, one for all chapters
MOVED = 0.05  # explained variance that has risen or fallen; our choice, less than some jumps between epochs
ROWS = "nclib_conclusions"  # where the metadata of a cell's output has them
GOOD = ("holds", "observed")  # verdicts that support a statement
PAGE = "“All statements”"  # which the book makes a link
WORDS = (
    "<em>Holds</em>, <em>does not hold</em>: significant at 5 %, all statements of the page taken together. "
    "<em>Observed</em>, <em>not observed</em>: in the one or two runs that there are, in more that all "
    "have one value, or at both bounds where only bounds are known. <em>Undecided</em>: neither; an "
    "interval, which is of one case alone, can exclude the value all the same. A "
    "<em>case</em> is an experiment with its seeds, or one method, split or setting in it. "
    f"The page {PAGE} has the whole rule."
)


@dataclass(frozen=True)
class Case:
    """What was measured of one data set or experiment.

    Attributes
    ----------
    name : of the data and, where several are meant, of the experiment.
    values : of the effect, one for each independent run (seed).
    n : samples behind each value.
    """

    name: str
    values: Sequence[float]
    n: int


@dataclass(frozen=True)
class Count:
    """Of how many independent draws something is true; the effect is their share.

    Attributes
    ----------
    name : as of ``Case``.
    hits, draws : how many of how many.
    n : samples in each draw.
    """

    name: str
    hits: int
    draws: int
    n: int


@dataclass(frozen=True)
class Tested:
    """An effect whose p-value comes from a test of its own, for example by permutations.

    Attributes
    ----------
    name, n : as of ``Case``.
    value : of the effect.
    p : two-sided, against the value that the effect has to exceed.
    seeds : how many runs the value is from.
    """

    name: str
    value: float
    p: float
    seeds: int
    n: int


@dataclass(frozen=True)
class Bounded:
    """An effect that lies somewhere between two values, with every one of which it is the same statement.

    Attributes
    ----------
    name, n : as of ``Case``.
    low, high : the two values.
    seeds : how many runs they are from.
    """

    name: str
    low: float
    high: float
    seeds: int
    n: int


@dataclass(frozen=True)
class Statement:
    """A sentence that could be wrong.

    Attributes
    ----------
    text : the sentence, without a full stop.
    effect : what the values measure; the larger, the more they support the sentence.
    cases : where it was tried.
    above : the value that the effect has to exceed.
    """

    text: str
    effect: str
    cases: Sequence[Case | Count | Tested | Bounded]
    above: float = 0.0


class Decided:
    """Decided statements, as notebooks and the book show them."""

    def __init__(self, statements: Sequence[Statement], rows: Sequence[dict[str, Any]]) -> None:
        self.statements, self.rows = list(statements), list(rows)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/html": self.html(), "text/plain": self.text()}, {ROWS: self.rows}

    def html(self) -> str:
        items = []
        for sentence, effect, rows in map(self._parts, self.statements):
            listed = "".join(f"<li>{escape(in_words(row))}</li>" for row in rows)
            summary = f"<summary>{escape(f'{effect} {tally(rows)}')}</summary>"
            cases = f"<details>{summary}<ul>{listed}</ul></details>"
            items.append(f"<li><strong>{escape(sentence)}</strong> {cases}</li>")
        return f'<p>{WORDS}</p><ul class="conclusions">{"".join(items)}</ul>'

    def text(self) -> str:
        return "\n".join(
            f"* {sentence} {effect} {'; '.join(map(in_words, rows))}."
            for sentence, effect, rows in map(self._parts, self.statements)
        )

    def _parts(self, statement: Statement) -> tuple[str, str, list[dict[str, Any]]]:
        """The sentence, what is measured, and the cases."""
        rows = [row for row in self.rows if row["statement"] == statement.text]
        sentence = beginning([row["verdict"] for row in rows]) + statement.text + "."
        effect = statement.effect
        if not effect.startswith("k-"):  # a name that keeps its small letter
            effect = effect[:1].upper() + effect[1:]
        return sentence, f"{effect} (has to exceed {statement.above:.3g}):", rows


def show(*statements: Statement) -> Decided:
    """Decide statements together, those of one page.

    Notes
    -----
    A case with three runs or more is decided by a two-sided t test of their mean against ``above``, a count
    by the exact binomial test, ``Tested`` by its p, p-values adjusted by Holm's method over all cases: it
    "holds", "does not hold" (the effect is significantly lower) or is "undecided". Of one or two runs, of
    more that all have one value and so no t, and of bounds, the effect is "observed" if it exceeds ``above``
    in all, "not observed" if in none.
    """
    rows = [row(statement, case) for statement in statements for case in statement.cases]
    tested = [r for r in rows if r["p"] is not None]
    for r, adjusted in zip(tested, holm([r["p"] for r in tested]), strict=True):
        r["p"] = adjusted
    for r in rows:
        r["verdict"] = verdict(r)
    return Decided(statements, rows)


def row(statement: Statement, case: Case | Count | Tested | Bounded) -> dict[str, Any]:
    """Effect, its range over runs, and where they have one its interval and unadjusted p-value.

    Raises
    ------
    ValueError : no values, or one that is not finite.
    """
    measured = {Case: over_runs, Count: counted, Tested: tested_elsewhere, Bounded: bounded}[type(case)]
    try:
        found = measured(case, statement.above)
    except ValueError as error:
        raise ValueError(f"{statement.text!r}, {case.name}: {error}") from None
    return {
        "statement": statement.text,
        "effect": statement.effect,
        "data": case.name,
        "above": statement.above,
        "n": int(case.n),
        **found,
    }


def over_runs(case: Case, above: float) -> dict[str, Any]:
    values = np.asarray(case.values, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"expected finite values, got {case.values!r}")
    found = {"value": float(values.mean()), "least": float(values.min()), "most": float(values.max())}
    found |= {"seeds": len(values), "low": None, "high": None, "p": None}
    if len(values) < FEWEST or not differ(values):
        return found
    mean, half = interval(values)
    p = float(stats.ttest_1samp(values, above).pvalue)
    return found | {"low": mean - half, "high": mean + half, "p": p}


def counted(case: Count, above: float) -> dict[str, Any]:
    if not 0 <= case.hits <= case.draws or case.draws == 0:
        raise ValueError(f"expected some of at least one draw, got {case.hits} of {case.draws}")
    test = stats.binomtest(case.hits, case.draws, above)
    low, high = test.proportion_ci()
    share = case.hits / case.draws
    found = {"value": share, "least": share, "most": share, "low": low, "high": high, "p": test.pvalue}
    return found | {"draws": case.draws, "seeds": None}


def tested_elsewhere(case: Tested, above: float) -> dict[str, Any]:
    if not (np.isfinite(case.value) and 0 <= case.p <= 1):
        raise ValueError(f"expected a finite value and a p-value, got {case.value!r} and {case.p!r}")
    same = dict.fromkeys(("value", "least", "most"), float(case.value))
    return same | {"seeds": case.seeds, "low": None, "high": None, "p": float(case.p)}


def bounded(case: Bounded, above: float) -> dict[str, Any]:
    if not (np.isfinite([case.low, case.high]).all() and case.low <= case.high):
        raise ValueError(f"expected finite bounds in order, got {case.low!r} and {case.high!r}")
    middle, untested = (case.low + case.high) / 2, dict.fromkeys(("low", "high", "p"))
    return {"value": middle, "least": case.low, "most": case.high, "seeds": case.seeds} | untested


def verdict(row: dict[str, Any]) -> str:
    higher = row["value"] > row["above"]
    if row["p"] is None:
        all_or_none = (row["least"] > row["above"]) == (row["most"] > row["above"])
        return ("observed" if higher else "not observed") if all_or_none else "undecided"
    if row["p"] >= SIGNIFICANT:
        return "undecided"
    return "holds" if higher else "does not hold"


def beginning(verdicts: Sequence[str]) -> str:
    """How a sentence begins, so that it does not claim more than its cases show."""
    kinds = set(verdicts)
    if kinds == {"holds"}:
        return ""
    if kinds == {"observed"}:
        return "Observed: "
    if kinds <= set(GOOD):
        return "Holds where there is a test, observed elsewhere: "
    if kinds & set(GOOD):
        return "Holds in part: " if "holds" in kinds else "Observed in part: "
    if "undecided" in kinds:
        return "Undecided in these runs: " if len(kinds) == 1 else "Not supported by these runs: "
    return "Does not hold in these runs: " if "does not hold" in kinds else "Not observed: "


def tally(rows: Sequence[dict[str, Any]]) -> str:
    """How often each verdict is given, the first one with the number of cases."""
    (first, often), *others = Counter(row["verdict"] for row in rows).items()
    cases = "one case" if len(rows) == 1 else f"{often} of {len(rows)} cases"
    return ", ".join([f"{first} in {cases}", *(f"{verdict} in {number}" for verdict, number in others)])


def in_words(row: dict[str, Any]) -> str:
    """A case in a few words."""
    value = f"{row['value']:.3g}"
    if row["low"] is not None:
        value += f" [{row['low']:.3g}, {row['high']:.3g}]"
    elif row["least"] < row["most"]:
        value = f"{row['least']:.3g} to {row['most']:.3g}"
    return f"{row['data']}: {row['verdict']}, {value}, {repeats(row)}, n = {row['n']:,}"


def repeats(row: dict[str, Any]) -> str:
    """How many seeds or draws a case has."""
    if row["seeds"] is None:
        return f"{row['draws']} draws"
    return "one seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"


def collected(notebooks: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The rows that executed notebooks carry, each with the name of its page."""
    return [
        {"page": page} | found
        for page, notebook in notebooks
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for found in output.get("metadata", {}).get(ROWS, [])
    ]
