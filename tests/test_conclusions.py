"""Statements change when the runs behind them do."""

from __future__ import annotations

import re

import nbformat
import numpy as np
import pytest
from scipy import stats

from nclib.chapters import conclusions
from nclib.chapters.conclusions import Case, Statement
from nclib.measures.significance import holm

TEXT = "Clustering recovers more than guessing does"
STRONG = [0.40, 0.41, 0.39, 0.42, 0.40]


def decided(*cases, above=0.0):
    return conclusions.show(Statement(TEXT, "accuracy above chance", cases, above))


def verdicts(*cases, above=0.0):
    return [row["verdict"] for row in decided(*cases, above=above).rows]


@pytest.mark.parametrize(
    ("values", "verdict", "beginning"),
    [
        (STRONG, "holds", TEXT),
        ([-v for v in STRONG], "does not hold", "Does not hold in these runs: "),
        ([0.4, -0.5, 0.1, -0.1, 0.0], "undecided", "Undecided in these runs: "),
        ([0.4], "observed", "Observed: "),
        ([-0.4], "not observed", "Not observed: "),
    ],
)  # fmt: skip
def test_the_values_decide(values, verdict, beginning):
    found = decided(Case("digits", values, n=360))
    assert [row["verdict"] for row in found.rows] == [verdict]
    assert found.text().startswith(f"* {beginning}")
    assert f"digits: {verdict}" in found.text() and "n = 360" in found.text()


def test_some_cases_only():
    assert decided(Case("a", STRONG, 9), Case("b", [-1.0], 9)).text().startswith("* Holds in part: ")


@pytest.mark.parametrize(
    ("values", "beginning"),
    [
        ((STRONG, [0.4]), "Holds where there is a test, observed elsewhere: "),
        (([0.4], [-0.4]), "Observed in part: "),
        (([0.4, -0.5, 0.1], [-0.4]), "Not supported by these runs: "),
        (([-v for v in STRONG], [-0.4]), "Does not hold in these runs: "),
    ],
)
def test_a_mixture_claims_no_more_than_it_shows(values, beginning):
    cases = [Case(str(i), each, 9) for i, each in enumerate(values)]
    assert decided(*cases).text().startswith(f"* {beginning}")


def test_the_bound_counts():
    assert verdicts(Case("a", STRONG, 9), above=0.6) == ["does not hold"]
    assert verdicts(Case("a", [0.4], 9), above=0.4) == ["not observed"]


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        ([0.3, 0.1], "observed", "0.1 to 0.3, 2 seeds"),
        ([0.3, -0.1], "undecided", "-0.1 to 0.3, 2 seeds"),
        ([-0.3, 0.0], "not observed", "-0.3 to 0, 2 seeds"),
        ([0.5] * 9, "observed", "0.5, 9 seeds"),
        ([-0.5] * 9, "not observed", "-0.5, 9 seeds"),
        ([0.5, 0.5 + 1e-16, 0.5 - 1e-16], "observed", "0.5, 3 seeds"),
        ([0.0] * 9, "not observed", "0, 9 seeds"),
    ],
)
def test_values_without_an_interval(values, verdict, words):
    """Two runs, whose interval would be all there is, and runs whose t would be infinite."""
    found = decided(Case("a", values, 9))
    assert [row["verdict"] for row in found.rows] == [verdict]
    assert found.rows[0]["low"] is None
    assert words in found.text()


def test_equal_values_do_not_count_among_the_tests():
    beside = decided(Case("a", STRONG, 9), Case("b", [0.3] * 5, 9)).rows
    assert beside[0]["p"] == decided(Case("a", STRONG, 9)).rows[0]["p"]
    assert beside[1]["p"] is None


def test_a_second_run_that_agrees_does_not_lower_the_verdict():
    assert verdicts(Case("a", [0.1], 9)) == verdicts(Case("a", [0.1, 0.3], 9))


class TestCounts:
    def row(self, hits, draws, above):
        (found,) = decided(conclusions.Count("a", hits, draws, 9), above=above).rows
        return found

    def test_no_alarm_in_twenty_draws_shows_little(self):
        row = self.row(20, 20, above=0.95)
        assert row["verdict"] == "undecided"
        assert row["p"] == pytest.approx(1 - 20 * 0.95**19 * 0.05)  # only 19 of 20 is more likely
        assert row["low"] == pytest.approx(0.025 ** (1 / 20))  # of Clopper and Pearson

    def test_many_draws_decide(self):
        assert self.row(97, 100, above=0.05)["verdict"] == "holds"
        assert self.row(0, 400, above=0.05)["verdict"] == "does not hold"

    def test_it_is_of_draws(self):
        assert "a: holds, 0.95 [0.751, 0.999], 20 draws" in decided(conclusions.Count("a", 19, 20, 9)).text()

    @pytest.mark.parametrize(("hits", "draws"), [(1, 0), (3, 2), (-1, 2)])
    def test_counts_that_cannot_be(self, hits, draws):
        with pytest.raises(ValueError, match="draw"):
            self.row(hits, draws, 0.5)


def test_a_test_of_its_own_is_adjusted_with_the_others():
    own = conclusions.Tested("a", 0.7, 0.02, seeds=5, n=10)
    (alone,) = decided(own).rows
    assert (alone["verdict"], alone["p"], alone["low"]) == ("holds", 0.02, None)
    assert "a: holds, 0.7, 5 seeds, n = 10" in decided(own).text()
    assert decided(own, own, own).rows[0]["verdict"] == "undecided"  # 0.06
    assert verdicts(conclusions.Tested("a", -0.7, 0.02, seeds=5, n=10)) == ["does not hold"]
    with pytest.raises(ValueError, match="p-value"):
        decided(conclusions.Tested("a", 0.7, float("nan"), seeds=5, n=10))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "observed"), (-0.2, 0.0, "not observed"), (-0.1, 0.2, "undecided")],
)
def test_both_bounds_of_an_effect_have_to_agree(low, high, verdict):
    case = conclusions.Bounded("a", low, high, seeds=1, n=10)
    (row,) = decided(case).rows
    assert (row["verdict"], row["p"], row["seeds"]) == (verdict, None, 1)
    assert f"a: {verdict}, {low:.3g} to {high:.3g}, one seed, n = 10" in decided(case).text()


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.1), (float("nan"), 1), (0, float("inf"))])
def test_bounds_that_are_none(low, high):
    with pytest.raises(ValueError, match="bounds"):
        decided(conclusions.Bounded("a", low, high, seeds=1, n=10))


def test_p_value_is_that_of_student():
    values = np.array([0.1, 0.4, -0.2, 0.35])
    t = (values.mean() - 0.05) / (values.std(ddof=1) / 2)
    (row,) = decided(Case("a", values, 9), above=0.05).rows
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(t), 3))


def test_many_cases_need_more():
    """One p-value of 0.03 is significant by itself, and not among ten."""
    values = np.array([-1.0, 0.0, 1.0])
    values += stats.t.ppf(1 - 0.03 / 2, 2) / np.sqrt(3)  # its t statistic, for a deviation of one
    alone = Case("a", values, 9)
    assert decided(alone).rows[0]["p"] == pytest.approx(0.03)
    assert verdicts(alone) == ["holds"]
    noise = [Case(f"noise {i}", [-0.1, 0.1, 0.02 * i], 9) for i in range(9)]
    assert verdicts(alone, *noise)[0] == "undecided"


def test_familywise_error():
    """Nothing is there: of 400 pages with ten cases each at most 5 % say anything, in expectation."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        cases = [Case(str(i), draw.standard_normal(5), 9) for i in range(10)]
        wrong += any(verdict != "undecided" for verdict in verdicts(*cases))
    assert wrong <= stats.binom.ppf(0.9999, 400, 0.05)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01, np.nan, 0.03]) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_values_that_decide_nothing(values):
    with pytest.raises(ValueError, match="finite"):
        decided(Case("a", values, 9))


def test_cases_are_folded_below_how_they_fared():
    html = decided(
        Case("a", STRONG, 9), Case("b", [-1.0], 9), Case("c", [1.0], 9), Case("d", [2.0], 9)
    ).html()
    (summary,) = re.findall("<summary>(.*?)</summary>", html)
    assert summary.endswith("(has to exceed 0): holds in 1 of 4 cases, not observed in 1, observed in 2")
    assert html.count("<li>") == 5


def test_what_is_counted_is_said_above():
    html = decided(Case("a", STRONG, 9)).html()
    assert "holds in one case</summary>" in html
    assert "A <em>case</em> is" in html.partition("<ul")[0]


def test_html_is_escaped():
    found = conclusions.show(Statement("R < 1 & <b>", "R", [Case("<i>", [1.0], 9)]))
    assert "<i>" not in found.html() and "R &lt; 1 &amp; &lt;b&gt;" in found.html()


def test_rows_are_collected_from_executed_pages():
    found = decided(Case("digits", STRONG, 360))
    data, metadata = found._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    (row,) = conclusions.collected([("05_label_reconstruction", notebook)])
    assert row["page"] == "05_label_reconstruction"
    assert {"statement", "effect", "value", "low", "high", "n", "seeds", "p", "verdict"} <= set(row)
