"""Checks of exercises that say what probably went wrong, and the proof that they do.

A check is a function of the answer, which is a function, too. Its messages name the likely mistake:

    @exercises.check
    def check_pairings(pairings):
        assert pairings(10) != 45, "45 is the number of pairs among ten classes; join all ten at once"
        assert pairings(10) == 945

A page then runs ``refuses`` in a hidden cell, where the stub, ``def pairings(n): ...``, is still in place:

    exercises.refuses(check_pairings, {pairings: exercises.BLANK, wrong: "the number of pairs"})
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

BLANK = "not filled in"  # what a stub is told


def check(test: Callable[[Callable], Any]) -> Callable[[Callable], None]:
    """Decorate a check: it refuses an answer that returns nothing, and says so when an answer is right.

    An answer gets copies of arrays: it may overwrite them, and the check still has what it passed.
    """

    @functools.wraps(test)
    def checked(answer: Callable) -> None:
        test(returning(on_copies(answer)))
        print(f"{answer.__name__}: correct")

    return checked


def on_copies(answer: Callable) -> Callable:
    """The same function, called with copies of its arrays, and of its tensors that need no gradient."""

    def own(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.copy()
        return value.clone() if isinstance(value, Tensor) and not value.requires_grad else value

    @functools.wraps(answer)
    def call(*args: Any, **named: Any) -> Any:
        return answer(*map(own, args), **{name: own(value) for name, value in named.items()})

    return call


def returning(answer: Callable) -> Callable:
    """The same function, except that None is refused."""

    @functools.wraps(answer)
    def call(*args: Any, **named: Any) -> Any:
        value = answer(*args, **named)
        name = answer.__name__
        assert value is not None, f"{name} returned None: it is {BLANK}, or a `return` is missing"
        return value

    return call


def parts(value: Any, count: int) -> tuple:
    """The values that an answer returns together.

    Raises
    ------
    AssertionError : there are more or fewer of them, or a single value.
    """
    several = isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) > 0
    found = f"{len(value)} values" if several else f"one value, {value!r}"
    assert several and len(value) == count, f"return {count} values, as in `return a, b`; there is {found}"
    return tuple(value)


def refuses(checked: Callable[[Callable], None], answers: Mapping[Callable, str]) -> None:
    """Make sure that a check refuses each of these answers with its hint.

    Parameters
    ----------
    checked : what ``check`` returned.
    answers : part of the expected message by answer.

    Raises
    ------
    AssertionError : an answer is accepted, or refused with another message.
    """
    for answer, hint in answers.items():
        try:
            checked(answer)
        except AssertionError as error:
            if hint not in str(error):
                message = f"{checked.__name__} says {str(error)!r} where it should say {hint!r}"
                raise AssertionError(message) from error
        else:
            raise AssertionError(f"{checked.__name__} accepts an answer that should be told {hint!r}")
