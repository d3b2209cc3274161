"""The book's text outside the book: nothing of MyST is left, and sentences stay sentences."""

from __future__ import annotations

import pytest

from nclib.myst import EXPLORER, folded_answers, plain


@pytest.mark.parametrize(
    ("myst", "shown"),
    [
        ("(sec-one)=\n# One", "# One"),
        (":::{admonition} Think first\n:class: tip\nWhat?\n:::", "**Think first**\n\nWhat?"),
        (":::{solution-start} ex-1\n:::\nSo.", "**Solution: Try**\n\nSo."),
        ("see {doc}`the chapter <05_x>` and {term}`MSDR`", "see the chapter and MSDR"),
        ("{cite:p}`unknown2023`", "unknown2023"),
        ("Section 4 of {cite:t}`papyan2020prevalence`", "Section 4 of Papyan et al. (2020)"),
        ("(as {cite:p}`xu2023quantifying`)", "(as (Xu and Liu, 2023))"),
        ("$x_{1}$ and `code` and **bold**", "$x_{1}$ and `code` and **bold**"),
        ("# Title: a story\n\n* item", "# Title: a story\n\n* item"),
        ("Look:\n\n```{explorer}\n:images: 50\n```\n\nThen", f"Look:\n\n{EXPLORER}\n\nThen"),
        ("::::{exercise} Try\n:label: ex-1\n:::{dropdown}\nhint\n:::\n::::\n", "**Try**\n\nhint"),
    ],
)
def test_keeps_the_words(myst, shown):
    assert plain(myst, {"ex-1": "Try"}) == shown


@pytest.mark.parametrize(
    ("myst", "shown"),
    [
        ("The MSDR of {doc}`02_coarse_labels` is", "The MSDR of chapter *Coarse labels* is"),
        ("{doc}`02_coarse_labels` is", "Chapter *Coarse labels* is"),
        (
            "Why? {doc}`02_coarse_labels` says.\n{doc}`02_coarse_labels`",
            "Why? Chapter *Coarse labels* says.\nChapter *Coarse labels*",
        ),
        ("* so;\n  {doc}`02_coarse_labels` has more", "* so;\n  chapter *Coarse labels* has more"),
        ("**Question.** {doc}`02_coarse_labels` is", "**Question.** Chapter *Coarse labels* is"),
        ("see {doc}`../book/long-runs`", "see the page *Long runs*"),
        ("see {doc}`elsewhere`", "see elsewhere"),
    ],
)
def test_links_fit_into_their_sentence(myst, shown):
    assert plain(myst) == shown


def test_answers_of_a_quiz_are_folded():
    folded = folded_answers("Why?\n\n- A\n  - Wrong. It is\n    not.\n- B\n  - Right. So.\n")
    assert folded.count("<details>") == folded.count("</details>") == 2
    assert "<summary>Right or wrong?</summary>\n\n    Wrong. It is\n    not.\n" in folded
