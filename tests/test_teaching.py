"""Teaching material: exercises that stand alone, what is made from them, and the checks' own helper."""

from __future__ import annotations

import ast
import copy
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

import nclib
from nclib.chapters import exercises, figures
from nclib.notebook import seeds_of

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
IDS = [path.stem for path in SOURCES]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


teaching = load(ROOT / "book" / "teaching.py")
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # extensions import each other, as Sphinx does
table = load(ROOT / "book" / "_ext" / "teaching_table.py")


@exercises.check
def check_double(double):
    assert double(3) != 9, "this squares"
    assert double(3) == 6, f"double(3) is {double(3)}"


def double(n): ...


class TestCheck:
    def test_right_answer_is_reported(self, capsys):
        check_double(lambda n: 2 * n)
        assert capsys.readouterr().out.endswith(": correct\n")

    def test_stub_is_told_that_it_is_one(self):
        with pytest.raises(AssertionError, match=r"double returned None: it is not filled in, or a `return`"):
            check_double(double)

    @pytest.mark.parametrize("kind", [np.array, torch.tensor])
    def test_answer_may_overwrite_its_arrays(self, kind):
        @exercises.check
        def check_doubled(doubled):
            x = kind([1.0, 2.0])
            for found in (doubled(x), doubled(x=x)):
                assert found.tolist() == [2, 4], f"{found}"
            assert x.tolist() == [1, 2], "overwritten"

        def doubled(x):
            x *= 2
            return x

        check_doubled(doubled)

    def test_answer_gets_a_tensor_with_gradient_itself(self):
        @exercises.check
        def check_squared(squared):
            x = torch.tensor([3.0], requires_grad=True)
            squared(x).backward()
            assert x.grad.tolist() == [6], f"{x.grad}"

        check_squared(lambda x: x.square().sum())

    def test_refuses_compares_the_hint(self):
        def square(n):
            return n * n

        exercises.refuses(check_double, {double: exercises.BLANK, square: "squares"})
        with pytest.raises(AssertionError, match=r"says 'this squares.* where it should say 'cubes'"):
            exercises.refuses(check_double, {square: "cubes"})

    def test_refuses_needs_a_refusal(self):
        with pytest.raises(AssertionError, match="accepts an answer that should be told 'squares'"):
            exercises.refuses(check_double, {lambda n: n + n: "squares"})


class TestParts:
    @pytest.mark.parametrize("value", [(1, 2), [1, 2], np.array([1, 2])])
    def test_as_many_as_asked(self, value):
        assert exercises.parts(value, 2) == (1, 2)

    @pytest.mark.parametrize(
        "value, found",
        [(0.5, "one value, 0.5"), ("ab", "one value, 'ab'"), ({1, 2}, "one value"), ((1, 2, 3), "3 values")],
    )
    def test_says_what_was_returned(self, value, found):
        with pytest.raises(AssertionError, match=f"return 2 values, as in `return a, b`; there is {found}"):
            exercises.parts(value, 2)

    def test_of_a_single_number_of_numpy(self):
        with pytest.raises(AssertionError, match="one value"):
            exercises.parts(np.array(3.0), 2)


def code_of(cells) -> str:
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def tagged(source: Path, tag: str) -> list[str]:
    cells = jupytext.read(source, fmt="md:myst").cells
    return [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]


def undefined(programs: dict[str, str], folder: Path) -> str:
    """Names that any of these programs uses and never defines."""
    for name, code in programs.items():
        (folder / f"{name}.py").write_text(code, "utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--quiet",
        "--select",
        "F821",
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True).stdout


def solutions(source: Path) -> list[str]:
    """Code of each solution of a chapter."""
    after = source.read_text("utf-8").partition("\n## Solutions\n")[2]
    return [
        code_of(jupytext.reads(part, fmt="md:myst").cells)
        for part in after.split("{solution-end}\n:::\n")
        if "{code-cell}" in part
    ]


def test_no_exercise_needs_the_solution_of_another(tmp_path):
    programs = {}
    for source in SOURCES:
        student = code_of(nbformat.reads(teaching.student(source), as_version=4).cells)
        programs[source.stem] = student
        for i, solution in enumerate(solutions(source)):
            programs[f"{source.stem}_{i}"] = f"{student}\n{solution}"
    assert undefined({"broken": "def f():\n    return nowhere\n"}, tmp_path).count("F821") == 1
    (tmp_path / "broken.py").unlink()
    assert undefined(programs, tmp_path) == ""


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
class TestExercises:
    def test_each_has_level_minutes_stub_check_and_solution(self, source):
        text = source.read_text("utf-8")
        labels = re.findall(r"\{exercise-start\} .+\n:label: (\S+)", text)
        stubs = [teaching.STUB.search(stub)[1] for stub in tagged(source, "stub")]
        assert len(table.exercises(text)) == len(labels) >= 2
        assert labels == re.findall(r"\{solution-start\} (\S+)", text)
        assert re.findall(r"@exercises\.check\ndef (\w+)", text) == [f"check_{name}" for name in stubs]
        after = text.partition("\n## Solutions\n")[2]
        assert re.findall(r"^check_\w+\(\w+\)$", after, re.MULTILINE) == [f"check_{n}({n})" for n in stubs]

    def test_stub_and_two_or_more_wrong_answers_are_refused_with_a_hint_of_the_check(self, source):
        text = source.read_text("utf-8")
        stubs = [teaching.STUB.search(stub)[1] for stub in tagged(source, "stub")]
        cells = tagged(source, "wrong-answers")
        assert len(cells) == len(stubs)
        for name, cell in zip(stubs, cells, strict=True):
            call = ast.parse(cell).body[-1].value
            assert ast.unparse(call.func) == "exercises.refuses"
            assert ast.unparse(call.args[0]) == f"check_{name}"
            answers = dict(zip(map(ast.unparse, call.args[1].keys), call.args[1].values, strict=True))
            assert ast.unparse(answers.pop(name)) == "exercises.BLANK"
            check = text.partition(f"def check_{name}(")[2].partition("```")[0]
            hints = {ast.literal_eval(hint) for hint in answers.values()}
            assert len(hints) == len(answers) >= 2
            assert all(hint in check for hint in hints), name

    def test_every_refusal_says_why(self, source):
        code = code_of(jupytext.read(source, fmt="md:myst").cells)
        checks = [
            part
            for part in ast.parse(code).body
            if isinstance(part, ast.FunctionDef) and part.name.startswith("check_")
        ]
        assert checks
        bare = [
            ast.unparse(node)
            for check in checks
            for node in ast.walk(check)
            if isinstance(node, ast.Assert) and node.msg is None
        ]
        assert bare == []

    def test_student_notebook_is_plain_and_without_answers(self, source):
        notebook = nbformat.reads(teaching.student(source), as_version=4)
        code, prose = (
            [cell.source for cell in notebook.cells if cell.cell_type == kind]
            for kind in ("code", "markdown")
        )
        for name in [teaching.STUB.search(stub)[1] for stub in tagged(source, "stub")]:
            assert [cell for cell in code if re.search(rf"^def {name}\(", cell, re.MULTILINE)] == [
                cell for cell in code if re.search(rf"^def {name}\(.*\n    \.\.\.$", cell, re.MULTILINE)
            ]
            assert code.index(f"check_{name}({name})") > 0
        assert not any("exercises.refuses" in cell for cell in code)
        assert not re.search(
            r":::|```\{|\{(cite|doc|term|ref|math|rerun-file)[:}]|^:\w+:", "\n".join(prose), re.MULTILINE
        )

    def test_first_code_cell_has_the_parameters_and_is_open(self, source):
        for make in (teaching.student, teaching.solution):
            first, *others = [
                cell for cell in nbformat.reads(make(source), as_version=4).cells if cell.cell_type == "code"
            ]
            assert "parameters" in first.metadata.tags
            assert re.search(r"^seed = 0", first.source, re.MULTILINE)
            assert "jupyter" not in first.metadata
            folded = ["hide-input" in cell.metadata.get("tags", []) for cell in others]
            assert [cell.metadata.get("jupyter") == {"source_hidden": True} for cell in others] == folded

    def test_prediction_is_written_down_right_below_its_question(self, source):
        sources = [cell.source for cell in nbformat.reads(teaching.student(source), as_version=4).cells]
        at = sources.index(teaching.GUESS)
        box = teaching.slides.PREDICTION.search(source.read_text("utf-8"))[0]
        assert sources.count(teaching.GUESS) == 1
        assert sources[at - 1].endswith(teaching.plain(box))

    def test_solution_notebook_has_the_page_s_code(self, source):
        solution = nbformat.reads(teaching.solution(source), as_version=4)
        assert code_of(solution.cells) == code_of(jupytext.read(source, fmt="md:myst").cells)


def test_only_solution_notebooks_speak_of_solutions_at_their_end():
    for source in SOURCES:
        assert "student notebook" in source.read_text("utf-8")
        assert "solutions are at the end" in teaching.solution(source)
        assert "solutions are at the end" not in teaching.student(source)
        assert "Each check says whether an answer is right" in teaching.student(source)


def test_explanations_of_a_quiz_are_for_the_teacher(tmp_path):
    source = tmp_path / "01_x.md"
    source.write_text(
        ":::{quiz}\nWhy?\n\n- A\n  - Wrong. It is\n    not.\n- B\n  - Right. So.\n:::\n", "utf-8"
    )
    student, solution = (
        nbformat.reads(make(source), as_version=4).cells[0].source
        for make in (teaching.student, teaching.solution)
    )
    assert student == "**Check yourself**\n\nWhy?\n\n- A\n- B"
    assert "  - Wrong. It is\n    not." in solution


class TestOutputs:
    @pytest.fixture
    def cached(self, tmp_path, monkeypatch):
        """A cache with the outputs of one of two chapters, and their sources."""
        sources = [tmp_path / "01_a.md", tmp_path / "02_b.md"]
        notebooks = [nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]) for code in "ab"]
        found = [SimpleNamespace(path=s, notebook=n) for s, n in zip(sources, notebooks, strict=True)]
        monkeypatch.setattr(teaching.pair, "sources", lambda: sources)
        monkeypatch.setitem(sys.modules, "chapters", SimpleNamespace(chapters=lambda root: found))
        executed = copy.deepcopy(notebooks[0])
        executed.cells[0].outputs = [nbformat.v4.new_output("stream", text="shown")]
        bundle = CacheBundleIn(executed, str(sources[0]))
        get_cache(str(tmp_path / "one")).cache_notebook_bundle(bundle, check_validity=False)
        return tmp_path, sources

    def test_those_that_are_there(self, cached, capsys):
        folder, (a, b) = cached
        find = teaching.with_outputs(folder / "one")
        assert find(a).cells[0].outputs[0].text == "shown"
        assert find(b).cells[0].outputs == []
        said = capsys.readouterr().err
        assert said == "No outputs of 02_b found: slides without figures, run `make book` first.\n"

    def test_one_line_where_there_are_none(self, cached, capsys):
        folder, _ = cached
        teaching.with_outputs(folder / "none")
        assert capsys.readouterr().err == "No outputs found: slides without figures, run `make book` first.\n"


class TestSlides:
    def output(self, text: str):
        return nbformat.v4.new_output("display_data", data={"text/html": text})

    def page(self, *outputs: str, prediction: str = "admonition} Make a prediction") -> str:
        cells = [
            nbformat.v4.new_markdown_cell("# Title\n\n**Question.** Is $x_1 < 2$?\n\nText."),
            nbformat.v4.new_markdown_cell(
                f":::{{{prediction}\n:class: tip\nHow many?\n:::\n\n## A part\n\n:::{{tip}}\nMore.\n:::"
            ),
            nbformat.v4.new_code_cell("show()"),
        ]
        cells[-1].outputs = list(map(self.output, outputs))
        return teaching.slides.page(nbformat.v4.new_notebook(cells=cells), teaching.plain)

    def test_figure_below_its_heading(self):
        page = self.page('<figure class="nclib"><img alt="a"><figcaption>b</figcaption></figure>')
        assert page.count("<section>") == 3
        assert re.search(r"<h2>A part</h2>\s*<figure", page)

    def test_formulas_for_mathjax(self):
        assert r"\(x_1 &lt; 2\)" in self.page()

    @pytest.mark.parametrize("directive", ["admonition} Make a prediction", "prediction} how-many"])
    def test_prediction_alone_and_without_markup(self, directive):
        page = self.page(prediction=directive)
        assert re.search(r"<strong>Make a prediction</strong></p>\s*<p>How many\?</p>\s*</section>", page)

    def test_prediction_comes_where_the_page_has_it(self):
        cells = [
            nbformat.v4.new_code_cell("show()", outputs=[self.output('<figure class="nclib">one</figure>')]),
            nbformat.v4.new_markdown_cell(":::{prediction} how-many\nHow many?\n:::"),
            nbformat.v4.new_code_cell("show()", outputs=[self.output('<figure class="nclib">two</figure>')]),
        ]
        cells.insert(0, nbformat.v4.new_markdown_cell("# Title"))
        page = teaching.slides.page(nbformat.v4.new_notebook(cells=cells), teaching.plain)
        assert re.findall(r"one</fig|How many|two</fig", page) == ["one</fig", "How many", "two</fig"]

    def test_statements_with_the_rule_of_their_verdicts(self):
        page = self.page(
            '<p><em>Holds</em>: so.</p><ul class="conclusions"><li><strong>Yes.</strong></li></ul>'
        )
        assert '<ul><li>Yes.</li></ul><p class="rule"><em>Holds</em>: so.</p></section>' in page

    @pytest.mark.parametrize(("count", "sizes"), [(8, [8]), (9, [4, 5]), (13, [6, 7]), (17, [5, 6, 6])])
    def test_many_statements_have_several_slides(self, count, sizes):
        listed = "".join(f"<li><strong>Sentence {i}.</strong></li>" for i in range(count))
        page = self.page(f'<p>The rule.</p><ul class="conclusions">{listed}</ul>')
        slides = [s for s in page.split("<section")[1:] if "Sentence" in s]
        assert [len(re.findall("Sentence", s)) for s in slides] == sizes
        assert re.findall(r"Sentence (\d+)", page) == [str(i) for i in range(count)]
        assert all("The rule." in s for s in slides)

    def test_long_statements_have_several_slides(self):
        parts = teaching.slides.of_one_size(["a" * 150] * 6)
        assert [len(part) for part in parts] == [3, 3]

    def test_statements_as_sentences(self):
        page = self.page('<ul class="conclusions"><li><strong>So it is.</strong> Effect<ul></ul></li></ul>')
        assert "<ul><li>So it is.</li></ul>" in page

    @pytest.mark.parametrize(
        "sizes, chosen",
        [([(11, 2), (2, 9), (3, 4), (2, 2)], (3, 4)), ([(14, 2), (2, 14), (13, 2), (2, 13)], (13, 2)),
         ([(14, 2)], None)],
    )  # fmt: skip
    def test_first_small_table_or_the_first_that_fits(self, sizes, chosen):
        def table(rows: int, columns: int) -> str:
            return f"<table>{('<tr>' + '<td>1</td>' * columns + '</tr>') * rows}</table>"

        page = self.page(*(f"<div><style></style>{table(*size)}</div>" for size in sizes))
        shown = re.findall(r"<h2>A part</h2>\s*(<table.*)</section>", page)
        assert shown == ([table(*chosen)] if chosen else [])

    def test_result_of_the_prediction(self):
        shown = nclib.notebook.answer("how-many", 0.25, "It is {}.")._repr_mimebundle_()["text/html"]
        assert '<div class="answer"><p>It is 0.25.</p></div></section>' in self.page(shown)

    def test_only_the_first_embedding_hides_its_colours(self):
        figure = '<figure class="nclib"><svg></svg><figcaption>{} of 9</figcaption></figure>'
        page = self.page(*map(figure.format, ("k-means", "t-SNE (perplexity 3)", "t-SNE (perplexity 5)")))
        assert [bool(x) for x in re.findall(r'class="nclib( fragment custom colours)?"', page)] == [0, 1, 0]

    @pytest.mark.parametrize("box, beside", [("0 0 656 190", False), ("0 0 548 706", True)])
    def test_heading_beside_a_figure_that_is_larger_there(self, box, beside):
        figure = f'<figure class="nclib"><svg viewBox="{box}"></svg><figcaption>b</figcaption></figure>'
        assert ('<div class="beside">' in self.page(figure)) == beside

    def strips(self, figure) -> list[list[tuple[float, float]]]:
        """Of each slide of a figure, the strips of its drawing: where they begin, and their heights."""
        shown = f'<figure class="nclib">{figures.svg(figure, "a")}<figcaption>b</figcaption></figure>'
        plt.close(figure)
        slides = teaching.slides.figure_slides("<h2>A</h2>", shown)
        views = [re.findall(r'viewBox="0 (\S+) \S+ (\S+)"', slide) for slide in slides]
        return [[(float(top), float(tall)) for top, tall in of[-max(1, len(of) - 1) :]] for of in views]

    def test_small_writing_is_shown_on_two_slides_that_are_cut_between_panels(self):
        figure, panels = plt.subplots(4, 2, figsize=(6, 11), layout="constrained")
        for panel in panels.flat:
            panel.set_title("one\ntwo", fontsize=8)
            panel.set_xlabel("three", fontsize=8)
        figure.draw_without_rendering()
        upper, lower = (panels[row, 0].get_tightbbox() for row in (1, 2))
        whole = figure.get_tightbbox()  # in inches; the drawing has a margin of 0.1
        start, end = (72 * (whole.y1 + 0.1 - edge / figure.dpi) for edge in (upper.y0, lower.y1))
        ((first,), (second,)) = self.strips(figure)
        assert first[0] == 0 and first[1] == second[0]
        assert start < first[1] < end

    def test_small_writing_beside_one_panel_is_cut_between_labels_and_its_axis_repeated(self):
        figure, panel = plt.subplots(figsize=(6, 11), layout="constrained")
        panel.set_yticks(range(10), [f"name {n}" for n in range(10)], fontsize=8)
        panel.set_xlabel("three", fontsize=8)
        figure.draw_without_rendering()
        whole, box = figure.get_tightbbox(), panel.get_window_extent()
        bottom = 72 * (whole.y1 + 0.1 - box.y0 / figure.dpi)
        (upper, axis), (lower,) = self.strips(figure)
        assert upper[0] == 0 and upper[1] == lower[0] < bottom
        assert axis[0] == pytest.approx(bottom, abs=1)  # half of a line's width, and rounding
        assert axis[0] + axis[1] == pytest.approx(lower[0] + lower[1], abs=0.01)

    def test_the_lower_half_of_one_panel_has_the_title_and_the_legend(self):
        figure, panel = plt.subplots(figsize=(6, 11), layout="constrained")
        panel.set_yticks(range(10), [f"name {n}" for n in range(10)], fontsize=8)
        panel.set_title("title")
        panel.plot(range(10), range(10), "o", label="method")
        panel.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8)
        figure.draw_without_rendering()
        whole, box = figure.get_tightbbox(), panel.get_window_extent()
        top, right = 72 * (whole.y1 + 0.1 - box.y1 / figure.dpi), 72 * (box.x1 / figure.dpi - whole.x0 + 0.1)
        shown = f'<figure class="nclib">{figures.svg(figure, "a")}<figcaption>b</figcaption></figure>'
        plt.close(figure)
        drawing = r'<svg x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)" viewBox="(\S+) (\S+) (\S+) (\S+)"'
        _, lower = teaching.slides.figure_slides("<h2>A</h2>", shown)
        title, legend, half = ([float(n) for n in view] for view in re.findall(drawing, lower))
        assert title[4:6] == [0, 0] and title[3] == title[7] == pytest.approx(top, abs=2)
        assert legend[0] == legend[4] == pytest.approx(right, abs=2)
        assert legend[1] == half[1] == title[3] == legend[5]  # beside the lower half, from its top
        assert half[0] == 0 and half[5] > title[3]

    def test_large_writing_stays_whole(self):
        figure, _ = plt.subplots(2, 1, figsize=(6, 4))
        assert len(self.strips(figure)) == 1

    def test_nothing_is_loaded_from_elsewhere(self):
        assert not re.search(r"(src|href)=\"(https?:)?//", self.page())
        for name in ("reset.css", "reveal.css", "slides.css"):
            styles = (ROOT / "book" / "reveal" / name).read_text("utf-8")
            assert not re.search(r"(url\(['\"]?|@import\s+['\"])(https?:)?//", styles)


def test_table_has_what_a_lesson_needs():
    found = table.Reading(words=1201, figure=3)
    one = table.Chapter("01_x", "Name", found, (table.Exercise("Do", 2, 15),), 1.4)
    row = table.html_of([one]).partition("<tbody>")[2]
    cells = re.findall(r">([^<]+)</(?:td|li)>", row)
    assert cells[:5] == [str(found.minutes()), "1,201", "3", "Do (2, 15)", "1 s"]


def test_pairs_share_no_seed():
    choice = {"recipe": "digits"}
    for quick in (5, 15):  # chapter 11 has fifteen
        seeds = [s for pair in range(30) for s in seeds_of(choice | {"seed": quick * pair}, quick=quick)]
        assert len(seeds) == len(set(seeds)) == 30 * quick
