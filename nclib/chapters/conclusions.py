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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from scipy import stats

from nclib.chapters.statistics import interval
from nclib.measures.significance import holm

SIGNIFICANT = 0.05
CLOSE = 0.02  # two accuracies or AUROCs that a statement calls close; our choice, one for all chapters
ROWS = "nclib_conclusions"  # where the metadata of a cell's output has them
GOOD = ("holds", "observed")  # verdicts that support a statement


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
    cases: Sequence[Case]
    above: float = 0.0


class Decided:
    """Decided statements, as notebooks and the book show them."""

    def __init__(self, statements: Sequence[Statement], rows: Sequence[dict[str, Any]]) -> None:
        self.statements, self.rows = list(statements), list(rows)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/html": self.html(), "text/plain": self.text()}, {ROWS: self.rows}

    def html(self) -> str:
        items = []
        for sentence, effect, cases in map(self._parts, self.statements):
            listed = "".join(f"<li>{escape(case)}</li>" for case in cases)
            items.append(f"<li><strong>{escape(sentence)}</strong> {escape(effect)}<ul>{listed}</ul></li>")
        return f'<ul class="conclusions">{"".join(items)}</ul>'

    def text(self) -> str:
        parts = map(self._parts, self.statements)
        return "\n".join(f"* {sentence} {effect} {'; '.join(cases)}." for sentence, effect, cases in parts)

    def _parts(self, statement: Statement) -> tuple[str, str, list[str]]:
        """The sentence, what is measured, and the cases."""
        rows = [row for row in self.rows if row["statement"] == statement.text]
        sentence = beginning([row["verdict"] for row in rows]) + statement.text + "."
        effect = statement.effect[:1].upper() + statement.effect[1:]
        return sentence, f"{effect} (has to exceed {statement.above:.3g}):", [in_words(row) for row in rows]


def show(*statements: Statement) -> Decided:
    """Decide statements together, those of one page.

    Notes
    -----
    A case with several runs is decided by a two-sided t test of their mean against ``above``, p-values
    adjusted by Holm's method over all cases: it "holds", "does not hold" (the mean is significantly lower)
    or is "undecided". A single run has no interval: its effect is "observed" or "not observed".
    """
    rows = [row(statement, case) for statement in statements for case in statement.cases]
    tested = [r for r in rows if r["p"] is not None]
    for r, adjusted in zip(tested, holm([r["p"] for r in tested]), strict=True):
        r["p"] = adjusted
    for r in rows:
        r["verdict"] = verdict(r)
    return Decided(statements, rows)


def row(statement: Statement, case: Case) -> dict[str, Any]:
    """Effect, interval and unadjusted p-value of a case.

    Raises
    ------
    ValueError : no values, or one that is not finite.
    """
    values = np.asarray(case.values, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{statement.text!r}, {case.name}: expected finite values, got {case.values!r}")
    mean, half = interval(values)
    return {
        "statement": statement.text,
        "effect": statement.effect,
        "data": case.name,
        "value": mean,
        "low": None if len(values) == 1 else mean - half,
        "high": None if len(values) == 1 else mean + half,
        "above": statement.above,
        "n": int(case.n),
        "seeds": len(values),
        "p": None if len(values) == 1 else p_value(values, statement.above),
    }


def p_value(values: np.ndarray, above: float) -> float:
    """Two-sided p-value of Student's t test of a mean against ``above``."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    if error == 0:  # t is infinite or undefined
        return float(values[0] == above)
    return float(2 * stats.t.sf(abs(values.mean() - above) / error, len(values) - 1))


def verdict(row: dict[str, Any]) -> str:
    higher = row["value"] > row["above"]
    if row["p"] is None:
        return "observed" if higher else "not observed"
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
        return "Holds where there are several seeds, observed elsewhere: "
    if kinds & set(GOOD):
        return "Holds in part: " if "holds" in kinds else "Observed in part: "
    if "undecided" in kinds:
        return "Undecided in these runs: " if len(kinds) == 1 else "Not supported by these runs: "
    return "Does not hold in these runs: " if "does not hold" in kinds else "Not observed: "


def in_words(row: dict[str, Any]) -> str:
    """A case in a few words."""
    value = f"{row['value']:.3g}"
    if row["low"] is not None:
        value += f" [{row['low']:.3g}, {row['high']:.3g}]"
    seeds = "one seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    return f"{row['data']}: {row['verdict']}, {value}, {seeds}, n = {row['n']:,}"


def collected(notebooks: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The rows that executed notebooks carry, each with the name of its page."""
    return [
        {"page": page} | found
        for page, notebook in notebooks
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for found in output.get("metadata", {}).get(ROWS, [])
    ]
