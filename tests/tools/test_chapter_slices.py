"""Which cells of a chapter some other cells need: found from the source, so that a test runs no more than these."""

from pathlib import Path

import nbformat
import pytest
from chapter_slices import names_of, slice_for, widget_cells, widget_names, widget_slice

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_widget_of_a_chapter_is_in_a_slice_or_in_the_test_of_kernels():
    used, run = set(), set()
    for path in CHAPTERS:
        cells = nbformat.read(path, as_version=4).cells
        sources = [cell.source for cell in cells if cell.cell_type == "code"]
        widgets = widget_names(sources)
        used |= widgets
        run |= widgets & {name for number in widget_slice(sources) for name in names_of(sources[number]).needed}
    assert {"LiveTrainer", "hello_slider", "AttentionExplorer"} <= run <= used
    elsewhere = (ROOT / "tests" / "live" / "test_kernel.py").read_text(encoding="utf-8")
    assert [name for name in used - run if f"{name}(" not in elsewhere] == []


CHAPTER = [
    "from kdcourse.widgets import Explorer\nimport torch\nfrom kdcourse.training import fit",  # 0
    "teacher, size = torch.nn.Linear(2, 2), 3",  # 1
    "runs = sweep(teacher)",  # 2
    "student = torch.nn.Linear(2, 2)",  # 3
    "trained = {'before': student}",  # 4
    "fit(student, teacher)",  # 5
    "trained['after'] = student",  # 6
    "def new(seed):\n    return Explorer(teacher, size)",  # 7
    "print(runs)",  # 8
    "explorer = new(0)\nexplorer",  # 9
    "for student in trained.values():\n    print(student)",  # 10
    "explorer.look(trained)\nexplorer.close()",  # 11
    "print(runs, student)",  # 12
    "best = runs.best",  # 13
    "late = Explorer(best)\nlate",  # 14
    "early = Explorer(student)\nearly",  # 15
    "best = 4",  # 16
    "again = Explorer(best)\nagain",  # 17
]


def test_cells_that_use_a_widget_are_found_also_through_a_function_that_makes_it():
    assert widget_cells(CHAPTER) == {7, 9, 11, 14, 15, 17}


def test_a_slice_holds_what_its_widgets_need_and_what_has_changed_it_but_no_comparison():
    assert widget_slice(CHAPTER) == [0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 15, 16, 17]
    assert slice_for([4], CHAPTER) == [0, 3, 4]
    assert slice_for([14], CHAPTER) == [0, 1, 2, 13, 14]


def test_what_needs_a_cell_that_is_left_out_is_left_out_too():
    assert slice_for([14], CHAPTER, without="sweep(") == []  # needs it through cell 13
    assert slice_for([17], CHAPTER, without="sweep(") == [0, 16, 17]  # the name was bound anew
    assert slice_for([2], ["student = 1", "student = sweep(2)", "Explorer(student)"], without="sweep(") == []


@pytest.mark.parametrize(
    ("source", "needed", "bound", "changed"),
    [
        ("x = x + y", {"x", "y"}, {"x"}, set()),
        ("x = y\nz = x", {"y"}, {"x", "z"}, set()),
        ("x += 1", {"x"}, {"x"}, set()),
        ("for x in y: print(x)", {"y", "print"}, {"x"}, set()),
        ("z = [x for x in y if x > w]", {"y", "w"}, {"z"}, set()),
        ("def f(a):\n    return a + b", {"b"}, {"f"}, set()),
        ("f = lambda a: a + b", {"b"}, {"f"}, set()),
        ("class A(B):\n    c = d\n    def e(self): return g", {"B", "d", "g"}, {"A"}, set()),
        ("with a.b(c) as d: d.e = 1", {"a", "c", "d"} - {"d"}, {"d"}, {"d"}),
        ("x['a'][0].b = 1", {"x"}, set(), {"x"}),
        ("x.append(y)", {"x", "y"}, set(), {"x", "y"}),
        ("print(x)\nshow(y, alt='z')", {"print", "x", "show", "y"}, set(), set()),
        ("fit(x, y.z)", {"fit", "x", "y"}, set(), {"x", "y"}),
        ("import a.b as c, d.e\nfrom f import g", set(), {"c", "d", "g"}, set()),
        ("x, (y, *z) = w", {"w"}, {"x", "y", "z"}, set()),
    ],
)
def test_what_a_cell_does_to_names_is_read_from_its_source(source, needed, bound, changed):
    assert names_of(source) == (needed, bound, changed)
