"""The frame of chapters: each extension on a book of a few lines, then that every chapter has all parts."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import papermill
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from nclib.chapters.conclusions import WORDS
from nclib.myst import plain
from nclib.notebook import answer

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
EXTENSIONS = [
    "chapter_opening",
    "prediction",
    "quiz",
    "rerun",
    "colophon",
    "glossary_notes",
    "statements_table",
]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import chapter_opening  # noqa: E402
import colophon  # noqa: E402
import rerun  # noqa: E402

KERNEL = "  name: python3\n  display_name: Python 3\n  language: python\n"
FRONT = f"---\nfile_format: mystnb\nkernelspec:\n{KERNEL}---\n\n"
PARAMETERS = """```{code-cell}
:tags: [parameters, hide-input]

recipe = "digits"  # which experiment
seed = 0  # of <everything>
# fields; `None`: as the recipe says
lr = None
epochs = None
```

```{code-cell}
:tags: [hide-input]

import nclib
```
"""
OPENING = """:::{chapter-opening}
After this chapter you can

- one,
- two,
- three.

You need: nothing.
:::
"""
QUIZ = """:::{quiz}
What is $1 + 1$?

- 2
  - Right. Count.
- 3
  - Wrong. Count again.
:::
"""


def guess(answered: str, options: str = ":from: 0\n:to: 1\n:step: 0.1\n", choices: str = "") -> str:
    """A prediction, and the result as a notebook's output has it."""
    shown = answer("share", answered, "It is {}.")._repr_mimebundle_()["text/html"]
    return f":::{{prediction}} share\n{options}\nHow much?\n{choices}\n:::\n\n```{{raw}} html\n{shown}\n```\n"


BAD_QUIZZES = {
    "no option is right": ("Right.", "Wrong."),
    "2 options are right": ("Wrong.", "Right."),
    "begins with Right. or Wrong.": ("Right.", "Yes."),
    "one explanation": ("  - Right. Count.\n", ""),
    "two options": ("- 3\n  - Wrong. Count again.\n", ""),
    "a question": ("What is $1 + 1$?\n", ""),
}
BAD_PREDICTIONS = {
    "'2.0' of share is outside of its range": guess(2.0),
    "'' of share is outside of its range": guess(float("nan")),
    "none of its choices": guess("equal", "", "\n- less\n- more\n"),
    "expected one cell": guess(0.5).replace("data-answer=", "data-other="),
    "expected either": guess(0.5, ":from: 0\n"),
    "or a list of choices": guess("less", choices="\n- less\n- more\n"),
}
BAD_OPENINGS = {"3 objectives": ("- two,\n", ""), "You need:": ("You need: nothing.", "Nothing.")}
FIGURES = "```{raw} html\n" + '<figure class="nclib"></figure>' * 11 + "\n```\n"
TASKS = "\n:::{exercise} One\nDo it.\n:::\n\n:::{exercise} Two (25 minutes)\nDo it.\n:::\n"
PAGES = {
    "quizzes": QUIZ + "\n" + QUIZ,
    "several": QUIZ.replace("{quiz}\n", "{quiz}\n:several:\n\n").replace("Wrong.", "Right."),
    "slider": guess(0.25),
    "choices": guess("less", "", "\n- less\n- more\n"),
    "short": OPENING,
    "long": OPENING + "\n" + "word " * 4000,
    "figures": OPENING + FIGURES + TASKS,
    "parameters": PARAMETERS + "\nThe {rerun-file}`solved` and the {rerun-file}`missing one`.\n",
    "card": "Words & more. " * 30,
    "terms": "A {term}`feature`, {term}`again <feature>`.\n",
    "statements": f"```{{raw}} html\n<p>{WORDS}</p>\n```\n",
    "words": "```{glossary}\nfeature\n  A vector $h$, see {term}`mean`.\n\nmean\n  Sum over count.\n```\n",
}
BAD_PAGES = {
    **{f"quiz-{i}": QUIZ.replace(*change) for i, change in enumerate(BAD_QUIZZES.values())},
    **{f"prediction-{i}": text for i, text in enumerate(BAD_PREDICTIONS.values())},
    **{f"opening-{i}": OPENING.replace(*change) for i, change in enumerate(BAD_OPENINGS.values())},
}
CITATION = 'title: "A & B"\nversion: 1.2\nauthors:\n  - {family-names: Doe, given-names: Jo}\n'


class Book:
    """Pages built by Sphinx, as text by name, and its warnings."""

    def __init__(self, folder: Path, pages: dict[str, str], **settings: object) -> None:
        source, self.out = folder / "source", folder / "html"
        (source / "notebooks").mkdir(parents=True)
        (source / "notebooks" / "parameters.ipynb").write_text("{}")
        (source / "CITATION.cff").write_text(CITATION)
        (source / "index.md").write_text("# Index\n\n```{toctree}\n:glob:\n*\n```\n")
        for name, text in pages.items():
            (source / f"{name}.md").write_text(f'{FRONT}# The page "{name}"\n\n{text}', "utf-8")
        fixed = {
            "extensions": ["myst_nb", "sphinx_exercise", *EXTENSIONS],
            "nb_execution_mode": "off",
            "myst_enable_extensions": ["colon_fence", "dollarmath"],
            "html_theme": "sphinx_book_theme",
            "exclude_patterns": ["notebooks/*"],
            "html_title": "A book",
        }
        warnings, trees = io.StringIO(), folder / "trees"
        with patch_docutils(), docutils_namespace():
            Sphinx(
                source, None, self.out, trees, "html", fixed | settings, status=None, warning=warnings
            ).build()
        self.warnings = warnings.getvalue()

    def __getitem__(self, name: str) -> str:
        return (self.out / f"{name}.html").read_text("utf-8")

    def warned(self, name: str) -> str:
        """What is said about a page."""
        return "\n".join(line for line in self.warnings.splitlines() if f"/{name}.md" in line)


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Book:
    return Book(tmp_path_factory.mktemp("a book"), PAGES | BAD_PAGES)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Book:
    """With addresses of the repository and of the pages, and more files to offer."""
    return Book(
        tmp_path_factory.mktemp("published"),
        {name: PAGES[name] for name in ("parameters", "card")},
        html_theme_options={
            "repository_url": "https://github.com/someone/book",
            "repository_branch": "trunk",
        },
        html_baseurl="https://example.org/book/",
        rerun_files=[["solved", "notebooks/{name}.ipynb"], ["missing", "none/{name}.ipynb"]],
    )


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.found if t == tag and wanted.items() <= a.items()]


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<article")[2].partition("</article>")[0]).split())


class TestQuiz:
    def test_native_controls_with_labels(self, book):
        tags = Tags(book["quizzes"])
        keys = [a["id"] for a in tags.of("input", type="radio")]
        assert len(set(keys)) == 4
        assert [a["for"] for a in tags.of("label") if a["for"] in keys] == keys
        assert len({a["name"] for a in tags.of("input", type="radio")}) == 2
        assert len(tags.of("p", role="status")) == len(tags.of("fieldset")) == 2

    def test_answers_are_there_without_a_script(self, book):
        answers = book["quizzes"].partition('<details class="quiz-answers">')[2].partition("</details>")[0]
        assert "Right. Count." in answers and "Wrong. Count again." in answers

    def test_several(self, book):
        assert len(Tags(book["several"]).of("input", type="checkbox", name="quiz-0")) == 2

    @pytest.mark.parametrize(("number", "message"), list(enumerate(BAD_QUIZZES)))
    def test_what_cannot_be_answered_is_an_error(self, book, number, message):
        assert "ERROR" in book.warned(f"quiz-{number}")
        assert message in book.warned(f"quiz-{number}")


def test_only_the_bad_pages_are_warned_about(book):
    lines = [line for line in book.warnings.splitlines() if ".md:" in line or "WARNING" in line]
    assert [li for li in lines if not any(f"/{name}.md" in li for name in BAD_PAGES)] == []


class TestPrediction:
    def test_slider_and_result(self, book):
        (slider,) = Tags(book["slider"]).of("input", type="range")
        assert (slider["min"], slider["max"], slider["step"]) == ("0", "1", "0.1")
        assert len(Tags(book["slider"]).of("label", **{"for": slider["id"]})) == 1
        assert "It is 0.25." in text_of(book["slider"])

    def test_choices(self, book):
        assert [a["value"] for a in Tags(book["choices"]).of("input", type="radio")] == ["less", "more"]

    @pytest.mark.parametrize(("number", "message"), list(enumerate(BAD_PREDICTIONS)))
    def test_what_would_never_meet_its_result(self, book, number, message):
        assert message in book.warned(f"prediction-{number}")


class TestAnswer:
    def test_reads_as_a_sentence_in_a_notebook(self):
        bundle = answer("share", 1 / 3, "It is {}.")._repr_mimebundle_()
        assert bundle["text/plain"] == "It is 0.333."
        assert f'data-value="{1 / 3}"' in bundle["text/html"]

    def test_undefined(self):
        found = answer("r", float("nan"), "r is {}.")
        assert (found.value, found.text) == ("", "r is undefined.")

    def test_plain_notebook_names_the_prediction(self):
        assert re.match(r"\*\*Make a prediction\*\*\s+How much\?", plain(guess(0.5)))


class TestOpening:
    def minutes(self, page: str) -> int:
        return int(re.search(r"Time: (\d+) minutes to read", text_of(page)).group(1))

    def test_minutes_grow_with_the_text(self, book):
        assert self.minutes(book["short"]) == 5
        assert self.minutes(book["long"]) == 25  # 4,000 words are 20 minutes, and a few more words

    def test_figures_and_exercises(self, book):
        assert self.minutes(book["figures"]) == 15
        assert f"{chapter_opening.EXERCISE_MINUTES + 25} for 2 exercises" in text_of(book["figures"])

    @pytest.mark.parametrize(("number", "message"), list(enumerate(BAD_OPENINGS)))
    def test_incomplete(self, book, number, message):
        assert message in book.warned(f"opening-{number}")


class TestRerun:
    def test_box(self, book):
        page = book["parameters"]
        box = page.partition('<details class="rerun-box">')[2].partition("</details>")[0]
        shown = " ".join(re.sub(r"<[^>]+>", " ", box).split())
        assert "seed 0 of &lt;everything&gt;" in shown
        assert "lr , epochs None fields; None : as the recipe says" in shown
        assert "import nclib" in shown
        assert "Toggle hidden content" not in page  # no other folded cell

    def test_downloads_that_exist(self, published):
        page = published["parameters"]
        links = [a["href"] for a in Tags(page).of("a") if "download" in a and "_downloads" in a["href"]]
        assert len(links) == 3  # the notebook, and "solved" in the box and in the text
        assert links[1] == links[2]
        assert all((published.out / link).is_file() for link in links)
        assert "solved" in text_of(page) and "The solved and the missing one." in text_of(page)

    def test_binder_and_colab_where_the_repository_has_an_address(self, book, published):
        assert "mybinder" not in book["parameters"]
        links = [a["href"] for a in Tags(published["parameters"]).of("a", **{"class": "reference external"})]
        assert links[:2] == [
            "https://mybinder.org/v2/gh/someone/book/trunk?urlpath=lab%2Ftree%2Fnotebooks%2Fparameters.ipynb",
            "https://colab.research.google.com/github/someone/book/blob/trunk/notebooks/parameters.ipynb",
        ]

    def test_colab_opens_github_only(self):
        found = rerun.services("https://gitlab.com/a/b.git", "main", "page")
        assert set(found) == {"Binder"}
        assert "/gl/a%2Fb/main?" in found["Binder"]


class TestColophon:
    def git(self, root: Path, *arguments: str) -> None:
        date = {"GIT_COMMITTER_DATE": "2020-02-03T00:00:00Z", "PATH": "/usr/bin:/bin", "HOME": str(root)}
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, env=date)

    @pytest.fixture
    def repository(self, tmp_path) -> Path:
        root = tmp_path / "repository"
        (root / "book").mkdir(parents=True)
        (root / "book" / "a.md").write_text("a")
        self.git(root, "init")
        self.git(root, "add", ".")
        self.git(root, "commit", "-m", "first")
        return root

    def test_last_commit_that_decides(self, repository):
        first = colophon.revision(repository)
        assert re.fullmatch(r"[0-9a-f]{7,}, 2020-02-03", first)
        (repository / "README").write_text("no page")
        self.git(repository, "add", ".")
        self.git(repository, "commit", "-m", "second")
        assert colophon.revision(repository) == first
        (repository / "book" / "a.md").write_text("b")
        assert colophon.revision(repository) == f"{first}, with changes since"

    def test_without_git(self, tmp_path, repository):
        assert colophon.revision(tmp_path) == ""
        assert colophon.revision(repository / "book") == ""  # a copy inside of another repository

    def test_footer(self, book):
        assert "Jo Doe. <cite>A &amp; B</cite>, version 1.2." in book["short"]
        assert "Version 1.2.</p>" in book["short"]

    def test_footer_with_a_commit(self):
        citation = {"title": "t", "version": 1.2, "authors": [{"name": "x"}]}
        shown = colophon.footer(citation, "abc, 2020-02-03")
        assert "x (2020)." in shown and "Version 1.2, commit abc, 2020-02-03.</p>" in shown

    def test_card(self, book, published):
        cards = {a["property"]: a["content"] for a in Tags(book["card"]).of("meta") if "property" in a}
        assert cards["og:site_name"] == "A book"
        assert cards["og:title"] == "The page “card”"
        assert cards["og:description"].startswith("Words & more. Words")
        assert len(cards["og:description"]) < 205
        assert "og:image" not in cards
        (image,) = Tags(published["card"]).of("meta", property="og:image")
        assert image["content"].startswith("https://example.org/book/_static/")


class TestGlossaryNotes:
    def test_definitions_of_the_terms_of_a_page(self, book):
        notes = book["terms"].partition('<div id="glossary-notes" hidden>')[2].partition("</article>")[0]
        assert notes.count("data-term=") == 1
        assert "A vector" in notes
        assert "Sum over" not in notes
        assert 'data-term="term-feature"' in notes
        assert "<a " not in notes  # it would lead elsewhere from each page
        assert 'href="words.html#term-feature"' in book["terms"]  # without a script

    def test_their_formulas_are_set(self, book):
        loaded = {name: any("mathjax" in (a.get("src") or "") for a in Tags(book[name]).of("script"))
                  for name in ("terms", "short")}  # fmt: skip
        assert loaded == {"terms": True, "short": False}  # neither page has a formula of its own

    def test_none_on_pages_without_terms(self, book):
        assert 'id="glossary-notes"' not in book["short"]


def test_printed_statements_lead_to_all_statements(book):
    assert 'The page <a href="book/statements.html">All statements</a> has' in book["statements"]


PARTS = (
    "**Question.**",
    ":::{chapter-opening}",
    ":tags: [parameters",
    ":::{prediction} ",
    "nclib.notebook.answer(",
    "## What it means",
    "## What it does not mean",
    "## Quiz",
    "## Exercises",
    "## Three sentences to remember",
    "## Further reading",
)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
class TestEveryChapter:
    def test_has_all_parts_in_their_order(self, source):
        text = source.read_text("utf-8")
        places = [text.find(part) for part in PARTS]
        assert -1 not in places
        assert [text.count(part) for part in PARTS] == [1] * len(PARTS)
        without_answer = places[:4] + places[5:]
        assert without_answer == sorted(without_answer)
        assert places[3] < places[4] < text.index("## Quiz")

    def test_two_to_four_questions(self, source):
        assert 2 <= source.read_text("utf-8").count(":::{quiz}") <= 4

    def test_three_sentences(self, source):
        end = source.read_text("utf-8").partition("## Three sentences to remember")[2].partition("\n## ")[0]
        items = re.findall(r"^\d\. .+$", end, re.MULTILINE)
        assert len(items) == 3
        assert not re.search(
            r"\d\.\d|\d ?%", " ".join(items).replace("0.5 is chance", "")
        )  # no typed results

    def test_command_of_the_box_is_one_that_papermill_takes(self, source):
        notebook = source.with_suffix(".ipynb")
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        (cell,) = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
        shown = rerun.parameters_of("".join(cell["source"]))
        inferred = papermill.inspect_notebook(str(notebook))  # papermill's own reading of the same cell
        assert {p.name: p.default for p in shown} == {
            name: found["default"] for name, found in inferred.items()
        }
        ours, theirs = rerun.commands(source.stem, shown)
        assert ours == f"nclib run {source.stem} -p seed 1 --html {source.stem}.html"
        assert theirs == f"papermill notebooks/{notebook.name} out.ipynb -p seed 1"
        assert "seed" in inferred
