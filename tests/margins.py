"""Records how far every numeric check is from failing, for ``tests/portable.py``.

    MARGINS=FILE python -m pytest -p margins ...          with tests/ on PYTHONPATH
    import margins; margins.watch_kernel("chapter")       in a notebook, with MARGINS set

An ordinary run does not load this. Where it is loaded, two kinds of checks write a line of JSON each:

* a comparison within a tolerance (``pytest.approx``, ``assert_close``, ``allclose``, ...) its "ratio",
  bound / gap; where the two have to differ, gap / bound;
* a strict inequality between real numbers in an ``assert`` its "slack": the distance to where it would fail.
  Others, such as ``0 <= share <= 1``, may be attained. What is called "seconds" is of a clock, and left out.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import operator
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

ORDERS = {"Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge}
chapter: list[Any] = []  # the notebook that a kernel executes, and its shell


def record(line: int, **measured: float) -> None:
    where = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" (")[0]
    if chapter:
        where = f"{chapter[0]}, cell {chapter[1].execution_count}"
    row = {"where": where, "line": line} | measured
    with Path(os.environ["MARGINS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def is_real(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point()
    return np.asarray(value).dtype.kind == "f"


def reals(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=float)


def within(line: int, actual: Any, expected: Any, rtol: float, atol: float) -> None:
    """Record a comparison within a tolerance: the worst of its elements."""
    actual, expected = np.broadcast_arrays(reals(actual), reals(expected))
    gap, bound = np.abs(actual - expected), atol + rtol * np.abs(expected)
    judged = np.isfinite(gap) & np.isfinite(bound) & (bound > 0)  # a bound of zero asks for equality
    if judged.any():
        ratio = float((bound[judged] / np.maximum(gap[judged], sys.float_info.min)).min())
        record(line, ratio=max(ratio, 1 / ratio))


def ordered(line: int, names: Iterable[str], *values: Any) -> Any:
    """What ``values[0] < values[1] < ...`` is, each order given by its name in ``ORDERS``, recorded."""
    holds = []
    for name, left, right in zip(names, values[:-1], values[1:], strict=True):
        holds.append(ORDERS[name](left, right))
        with contextlib.suppress(TypeError, ValueError):  # neither numbers nor arrays of them
            if name in ("Lt", "Gt") and not np.ndim(holds[-1]) and (is_real(left) or is_real(right)):
                record(line, slack=float(abs(reals(right) - reals(left))))
    return functools.reduce(operator.and_, holds)


def is_time(node: ast.AST) -> bool:
    """Whether a part of an expression is named "seconds": a variable, an attribute or a key."""
    return "seconds" in (getattr(node, name, None) for name in ("id", "attr", "value"))


class Asserts(ast.NodeTransformer):
    """Lets ``ordered`` evaluate the inequalities inside every ``assert``."""

    inside = False

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        self.inside = True
        node.test = self.visit(node.test)
        self.inside = False
        return ast.fix_missing_locations(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        names = [type(order).__name__ for order in node.ops]
        if not self.inside or not set(names) <= set(ORDERS) or any(map(is_time, ast.walk(node))):
            return node
        call = ast.parse(f"__import__('margins').ordered({node.lineno}, {names})", mode="eval").body
        call.args += [node.left, *node.comparators]
        return ast.copy_location(call, node)


def checking_line(frame: FrameType | None) -> int:
    """The line of a test or of a cell in a frame, 0 in a library's."""
    file = Path(frame.f_code.co_filename)
    return frame.f_lineno if file.name.startswith("test_") or "ipykernel" in str(file.parent) else 0


def usual_tolerances(rtol: float, atol: float) -> Callable[..., tuple[float, float]]:
    return lambda actual, rtol=rtol, atol=atol, **_: (rtol, atol)


def torch_tolerances(actual: Any, rtol: float | None = None, atol: float | None = None, **_: Any):
    """Those of ``torch.testing.assert_close`` for float32 and float64."""
    usual = (1.3e-6, 1e-5) if getattr(actual, "dtype", None) == torch.float32 else (1e-7, 1e-7)
    return usual if rtol is None else (rtol, atol)


def watch_functions() -> None:
    """Let the functions that compare within a tolerance record what tests and cells ask of them."""
    for module, name, tolerances in (
        (np, "isclose", usual_tolerances(1e-5, 1e-8)),
        (np, "allclose", usual_tolerances(1e-5, 1e-8)),
        (torch, "isclose", usual_tolerances(1e-5, 1e-8)),
        (torch, "allclose", usual_tolerances(1e-5, 1e-8)),
        (np.testing, "assert_allclose", usual_tolerances(1e-7, 0)),
        (torch.testing, "assert_close", torch_tolerances),
    ):
        setattr(module, name, recorded(getattr(module, name), tolerances))


def recorded(compare: Callable, tolerances: Callable[..., tuple[float, float]]) -> Callable:
    @functools.wraps(compare)
    def inner(actual: Any, expected: Any, *args: Any, **kwargs: Any) -> Any:
        if line := checking_line(sys._getframe(1)):
            with contextlib.suppress(TypeError, ValueError):  # mappings; equality was asked for
                within(line, actual, expected, *tolerances(actual, *args, **kwargs))
        return compare(actual, expected, *args, **kwargs)

    return inner


def watch_kernel(name: str) -> None:
    """Record the checks of the notebook that this kernel executes."""
    from IPython import get_ipython

    shell = get_ipython()
    chapter[:] = name, shell
    watch_functions()
    shell.ast_transformers.append(Asserts())


def pytest_configure() -> None:
    """Record the checks of tests. pytest offers no hook for either place."""
    import pytest
    from _pytest.assertion import rewrite

    watch_functions()
    scalar = type(pytest.approx(1.0))
    equals, rewrite_asserts = scalar.__eq__, rewrite.rewrite_asserts

    def recorded_equals(self: Any, actual: Any) -> bool:
        frame = sys._getframe(1)
        while frame and not checking_line(frame):
            frame = frame.f_back
        if frame and is_real(actual) and is_real(self.expected):
            within(checking_line(frame), actual, self.expected, 0, self.tolerance)
        return equals(self, actual)

    def rewritten(tree: ast.Module, source: bytes, path: str | None = None, *rest: Any) -> None:
        tests = path and Path(path).name.startswith("test_")
        rewrite_asserts(Asserts().visit(tree) if tests else tree, source, path, *rest)

    scalar.__eq__, rewrite.rewrite_asserts = recorded_equals, rewritten
