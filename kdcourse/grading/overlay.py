"""Lay a submission over the key: whose text runs in which cell, whatever became of the submission's metadata.

The grader. Locked cells and checks come from the key, always. A solution cell comes from the submission, found by its
name, or else by what it defines. Everything else that is code runs where it stands, and never counts.
"""

import ast
import builtins
import itertools
import re
import symtable
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .notebooks import ASKS, MOST_CELLS, grade_id, is_graded, is_locked, is_solution, points_of
from .release import HIDDEN_TESTS, STUB, release

LONGEST = 50_000  # characters of a cell; an exercise has none above 3,000


class Step(NamedTuple):
    """A cell to run.

    Attributes
    ----------
    kind : str
        ``"locked"`` or ``"check"`` from the key, ``"learner"`` from the submission.
    name : str
        The key's, or ``"cell 7"``.
    source : str
    points : float
        Of a check.
    parts : tuple of (str, bool)
        Of a check: pieces that run one after the other, and whether they are hidden tests. A piece is sent when the one
        before has passed, so a learner's code cannot read ahead.
    used : tuple of str
        Of a check: the names that it uses. Wrong answers are put there to see whether the check still refuses them.
    """

    kind: str
    name: str
    source: str
    points: float = 0.0
    parts: tuple[tuple[str, bool], ...] = ()
    used: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What to run in which order, and what was odd about the submission."""

    steps: list[Step]
    notes: list[str]


def lay_over(submission: Mapping[str, Any], key: Mapping[str, Any]) -> Plan:
    """Return the cells to run for a submission.

    Parameters
    ----------
    submission : dict
        As `read_notebook` gives it; its metadata may be wrong or missing.
    key : dict
        With hidden tests.

    Raises
    ------
    ValueError
        If the submission has more or longer cells than anybody writes by hand.
    """
    cells = submission["cells"]
    if len(cells) > MOST_CELLS or any(len(cell["source"]) > LONGEST for cell in cells):
        raise ValueError(f"it has more than {MOST_CELLS} cells, or a cell of more than {LONGEST:,} characters.")
    released = release(dict(key), hidden_tests=True)["cells"]
    homes = _homes(cells, released)
    moved = _swapped(cells, released, homes)
    homes = [moved.get(number, home) for number, home in enumerate(homes)]
    notes = _notes(cells, released, homes)
    notes += [f"{grade_id(released[home])} stands under another name" for home, _ in moved.values()]
    steps = _free(cells, homes, -1)
    for position, cell in enumerate(released):
        steps += _from_key(cell, [cells[number] for number, home in enumerate(homes) if home == (position, True)])
        steps += _free(cells, homes, position)
    return Plan(steps, notes)


def _free(cells: list[dict[str, Any]], homes: list[tuple[int, bool]], position: int) -> list[Step]:
    """Return the steps of the learner's own cells that stand below a cell of the key."""
    own = [number for number, home in enumerate(homes) if home == (position, False) and _runs(cells[number])]
    return [Step("learner", f"cell {number + 1}", cells[number]["source"]) for number in own]


def _from_key(cell: Mapping[str, Any], found: list[dict[str, Any]]) -> Iterator[Step]:
    """Yield the steps of one cell of the key, given the submission's cells that belong to it."""
    name = grade_id(cell) or ""
    if is_solution(cell):
        written = [other["source"] for other in found if not _alike(other["source"], cell["source"])]
        for source in written or [cell["source"]]:
            yield Step("learner", name, source)
    elif cell["cell_type"] == "code" and is_graded(cell):
        source = cell["source"]
        yield Step("check", name, source, points_of(cell), _parts(source), _names_used(source))
    elif cell["cell_type"] == "code" and is_locked(cell):
        yield Step("locked", name, cell["source"])


def _homes(cells: list[dict[str, Any]], released: list[dict[str, Any]]) -> list[tuple[int, bool]]:
    """Return for each submitted cell the key's cell that it is, or else that it stands below (-1: below none)."""
    by_name = {grade_id(cell): position for position, cell in enumerate(released) if grade_id(cell)}
    known: dict[int, int] = {}
    for number, cell in enumerate(cells):
        name = next((name for name in _names_of(cell) if name in by_name), None)
        if name is not None:
            known[number] = by_name[name]
    # Without a name: the same text as a locked cell, or a definition of what a missing solution cell defines.
    missing = sorted({position for position in by_name.values()} - set(known.values()))
    texts = {_words(_visible(released[position]["source"])): position for position in reversed(missing)}
    defining = {
        name: p for p in reversed(missing) if is_solution(released[p]) for name in assigned(released[p]["source"])
    }
    for number, cell in enumerate(cells):
        if number in known:
            continue
        names = sorted(assigned(cell["source"]) & defining.keys()) if cell["cell_type"] == "code" else []
        if (text := _words(cell["source"])) in texts:
            known[number] = texts[text]
        elif names:
            known[number] = min(defining[name] for name in names)
    # Free text and code of the exercise itself marks a place too, but is the submission's.
    plain = {cell["source"]: position for position, cell in enumerate(released) if not grade_id(cell)}
    homes, below = [], -1
    for number, cell in enumerate(cells):
        below = known.get(number, plain.get(cell["source"], below))
        homes.append((below, number in known))
    return homes


def _swapped(
    cells: list[dict[str, Any]], released: list[dict[str, Any]], homes: list[tuple[int, bool]]
) -> dict[int, tuple[int, bool]]:
    """Return where cells belong that carry each other's names: each defines what the other is asked for."""
    defines = {number: assigned(cells[number]["source"]) for number, (_, own) in enumerate(homes) if own}
    asked = {place: assigned(cell["source"]) for place, cell in enumerate(released) if is_solution(cell)}
    here = {number: home for number, (home, own) in enumerate(homes) if own and home in asked}
    moved = {}
    for (one, place), (other, target) in itertools.permutations(here.items(), 2):
        strays = not asked[place] & defines[one] and not asked[target] & defines[other]
        if place != target and strays and asked[target] & defines[one] and asked[place] & defines[other]:
            moved[one] = (target, True)
    return moved


def _names_of(cell: Mapping[str, Any]) -> list[str]:
    """Return what may be a cell's name in the key: editors keep one of these, not always the same."""
    candidates = (grade_id(cell), cell.get("id"), cell["metadata"].get("id"))
    return [name for name in candidates if isinstance(name, str)]


def _notes(cells: list[dict[str, Any]], released: list[dict[str, Any]], homes: list[tuple[int, bool]]) -> list[str]:
    """Return what a teacher may want to know; none of it costs points by itself."""
    notes = []
    found: dict[int, list[dict[str, Any]]] = {}
    for cell, (position, own) in zip(cells, homes, strict=True):
        if own:
            found.setdefault(position, []).append(cell)
    for position, cell in enumerate(released):
        name, copies = grade_id(cell), found.get(position, [])
        if not name:
            continue
        if not copies and (is_graded(cell) or is_solution(cell)):
            notes.append(f"{name} was missing: put back from the key")
        if len(copies) > 1 and cell["cell_type"] == "code":
            notes.append(f"{name} is there {len(copies)} times")
        if is_locked(cell) and any(not _alike(_visible(copy["source"]), _visible(cell["source"])) for copy in copies):
            notes.append(f"{name} was edited: the key's was used")
        if is_graded(cell) and any(points_of(copy) not in (0, points_of(cell)) for copy in copies):
            notes.append(f"the points of {name} were edited: the key's were used")
        if is_solution(cell) and any(copy["cell_type"] != "code" for copy in copies):
            notes.append(f"{name} was no code cell any more: run as code")
    names = {grade_id(cell) for cell in released}
    extra = [cell for cell in cells if is_graded(cell) and grade_id(cell) not in names]
    return notes + [f"a cell marked as graded that the key does not have ({len(extra)})"] * bool(extra)


def assigned(source: str) -> set[str]:
    """Return the names that a cell defines at its top level; by sight, as nothing unknown is parsed in this process."""
    pattern = r"^(?:async +)?(?:def|class) +(\w+)|^(\w+(?: *, *\w+)*) *(?::[^=\n]+)?=(?!=)"
    found = re.findall(pattern, source, re.MULTILINE)
    return {name for defined, names in found for name in [defined, *re.split(r" *, *", names)] if name}


def imports_of(key: Mapping[str, Any]) -> str:
    """Return the import statements of the key's locked cells: names that checks take from nobody else."""
    found = []
    for cell in key["cells"]:
        if cell["cell_type"] == "code" and (is_locked(cell) or not grade_id(cell)):
            with_regions = ast.parse(_visible(cell["source"]))
            found += [ast.unparse(node) for node in with_regions.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(found)


def answers_of(key: Mapping[str, Any]) -> list[str]:
    """Return the names that the key's solution cells assign: the learner's, even where a locked cell sets them too."""
    return sorted(name for cell in key["cells"] if is_solution(cell) for name in assigned(cell["source"]))


def shared_cells(key: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and sources of locked cells that give the same for everybody: they use nothing a learner writes.

    A teacher's predictions and the trainings of baselines need not be computed once for each submission.
    """
    theirs, needed, found = set(answers_of(key)), set[str](), []
    for cell in key["cells"]:
        if cell["cell_type"] != "code" or is_graded(cell) or is_solution(cell):
            continue
        table = symtable.symtable(_visible(cell["source"]), "cell", "exec")
        given = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
        used = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
        within = set(_globals_of(table))  # used by functions, whenever they are called
        # A function of an earlier cell would see what this one makes of a name.
        if is_locked(cell) and not (used | within | given) & theirs and not given & needed:
            found.append((grade_id(cell) or "", cell["source"]))
            needed |= within
        else:
            theirs |= given
    return found


def _globals_of(table: symtable.SymbolTable) -> Iterator[str]:
    for inner in table.get_children():
        yield from (symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global())
        yield from _globals_of(inner)


def asked_of(key: Mapping[str, Any]) -> list[str]:
    """Return the names of the package's functions that would be the answers, which the key's metadata tells."""
    found: dict[str, None] = {}
    for cell in key["cells"]:
        asked = cell["metadata"].get(ASKS)
        if isinstance(asked, list):
            found.update(dict.fromkeys(name for name in asked if isinstance(name, str)))
    return list(found)


def _names_used(source: str) -> tuple[str, ...]:
    """Return the names that a check uses and Python does not have itself."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return ()
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return tuple(sorted(name for name in names if not hasattr(builtins, name)))


def _parts(source: str) -> tuple[tuple[str, bool], ...]:
    """Split a check where hidden tests begin and end; in one piece if a piece would not be Python."""
    hidden, parts = _hidden_lines(source), []
    for is_hidden, group in itertools.groupby(enumerate(source.split("\n"), 1), lambda line: line[0] in hidden):
        text = "\n".join(line for _, line in group)
        if any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
            parts.append((text, is_hidden))
    try:
        for text, _ in parts:
            ast.parse(text)
    except SyntaxError:
        return ((source, bool(hidden)),)
    return tuple(parts)


def _hidden_lines(source: str) -> frozenset[int]:
    inside, found = False, set()
    for number, line in enumerate(source.split("\n"), 1):
        inside = (inside or f"BEGIN {HIDDEN_TESTS}" in line) and f"END {HIDDEN_TESTS}" not in line
        if inside:
            found.add(number)
    return frozenset(found)


def _visible(source: str) -> str:
    hidden = _hidden_lines(source)
    lines = [line for number, line in enumerate(source.split("\n"), 1) if number not in hidden]
    return "\n".join(line for line in lines if f"END {HIDDEN_TESTS}" not in line)


def _alike(one: str, other: str) -> bool:
    return _words(one) == _words(other)


def _words(source: str) -> str:
    return " ".join(source.split())


def _runs(cell: Mapping[str, Any]) -> bool:
    return cell["cell_type"] == "code" and bool(cell["source"].strip()) and cell["source"].strip() != STUB
