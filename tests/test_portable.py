"""What tests/portable.py counts as a margin."""

from __future__ import annotations

import ast
import json

import margins
import portable
import pytest


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINS", str(tmp_path / "margins"))
    return lambda: [json.loads(line) for line in (tmp_path / "margins").read_text().splitlines()]


def test_bound_over_the_worst_gap(rows):
    margins.within(7, [1.0, 2.0, 3.0], [1.0, 2.5, 3.1], rtol=0, atol=1)
    (row,) = rows()
    assert row["line"] == 7
    assert row["ratio"] == pytest.approx(2)


def test_what_has_to_differ_has_a_margin_too(rows):
    margins.within(1, 3.0, 1.0, rtol=0, atol=0.5)
    assert rows()[0]["ratio"] == pytest.approx(4)


def test_inequalities_of_an_assert_are_seen_and_stay_what_they_are(rows):
    tree = margins.Asserts().visit(ast.parse("x = 1 < 2.0\nassert 1 < 3.5 < 4.5 and not 2.0 < 1"))
    exec(compile(tree, "checks", "exec"))
    assert [row["slack"] for row in rows()] == [2.5, 1.0, 1.0]


def test_times_of_a_clock_have_no_margin(rows):
    lines = "assert seconds < 9.0", "assert {'seconds': 1.0}['seconds'] > 0", "assert 1 < 3.0"
    exec(compile(margins.Asserts().visit(ast.parse("\n".join(lines))), "checks", "exec"), {"seconds": 1.0})
    assert [(row["line"], row["slack"]) for row in rows()] == [(3, 2.0)]


def test_slack_counts_by_how_much_it_varies():
    found = portable.margins(
        {
            "one": [{"where": "t", "line": 1, "slack": 3.0}, {"where": "t", "line": 2, "ratio": 9.0}],
            "two": [{"where": "t", "line": 1, "slack": 2.0}, {"where": "t", "line": 2, "ratio": 1.5}],
        }
    )
    assert found == {"t, line 1, inequality": 2.0, "t, line 2": 1.5}
