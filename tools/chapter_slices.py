"""The cells that some cells of a chapter need: those that define what they use, those that these need, and so on."""

import ast
import symtable
from collections.abc import Iterable
from typing import NamedTuple

READERS = {
    "print",
    "show",
    "check_prediction",
    "assert_close",
    "display",
}  # functions that change none of their arguments


class Names(NamedTuple):
    """What a cell does to names: needs them from cells before, binds them anew, changes what they stand for."""

    needed: set[str]
    bound: set[str]
    changed: set[str]


def widget_slice(sources: list[str]) -> list[int]:
    """Return the numbers of the code cells that must run so that a chapter's widgets are shown and used.

    Cells that compare many trained students (``sweep``) are left out, and with them the widgets that show what these
    cells trained.
    """
    return slice_for(widget_cells(sources), sources, without="sweep(")


def slice_for(targets: Iterable[int], sources: list[str], *, without: str | None = None) -> list[int]:
    """Return the numbers of some code cells and of all that they need, directly or through others.

    Cells that hold the text ``without`` are left out, and so is every cell that needs a name from a left out one.
    """
    imported = {name for source in sources for name in _imports_of(source)}
    # A call of a module's function, such as torch.manual_seed, does not count as a change of the module.
    cells = [cell._replace(changed=cell.changed - imported) for cell in map(names_of, sources)]
    needs = [{n for name in cell.needed for n in definers(name, cells[:number])} for number, cell in enumerate(cells)]
    left_out = {number for number, source in enumerate(sources) if without is not None and without in source}
    for number, cells_before in enumerate(needs):
        if cells_before & left_out:
            left_out.add(number)
    kept: set[int] = set()
    waiting = set(targets) - left_out
    while waiting:
        number = waiting.pop()
        kept.add(number)
        waiting |= needs[number] - kept
    return sorted(kept)


def widget_cells(sources: list[str]) -> set[int]:
    """Return the numbers of the cells in which a widget is made or used."""
    makers, widgets, found = widget_names(sources), set(), set()
    for number, source in enumerate(sources):
        if not names_of(source).needed & (makers | widgets):
            continue
        found.add(number)
        for statement in ast.parse(source).body:
            # A function that makes widgets is one of their makers, and what a maker returns is a widget.
            if isinstance(statement, ast.FunctionDef) and names_of(ast.unparse(statement)).needed & makers:
                makers.add(statement.name)
            elif isinstance(statement, ast.Assign) and _makes(statement.value, makers):
                widgets |= names_of(ast.unparse(statement)).bound
    return found


def widget_names(sources: list[str]) -> set[str]:
    """Return the names that a chapter imports from ``kdcourse.widgets``."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "kdcourse.widgets"]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def definers(name: str, cells: list[Names]) -> list[int]:
    """Return which cells give a name its value: the last that binds it, and those that change the value afterwards."""
    found = []
    for number in reversed(range(len(cells))):
        if name in cells[number].bound:
            return [*found, number]
        if name in cells[number].changed:
            found.append(number)
    return found


def names_of(source: str) -> Names:
    """Read a cell statement by statement: a name that was bound above is not needed from elsewhere."""
    needed, bound, changed = set(), set(), set()
    for statement in ast.parse(source).body:
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
        uses = {s.get_name() for s in table.get_symbols() if s.is_referenced()} | _globals_inside(table)
        if isinstance(statement, ast.AugAssign):
            uses.add(_base(statement.target))
        elif not isinstance(statement, ast.Assign):
            uses -= binds  # as the variable of a loop, which is bound before it is used
        needed |= uses - bound
        changed |= _changed_by(statement) - bound
        bound |= binds
    return Names(needed, bound, changed)


def _imports_of(source: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in node.names}


def _globals_inside(table: symtable.SymbolTable) -> set[str]:
    """Return the global names that functions, classes and comprehensions inside a block use."""
    found = set()
    for child in table.get_children():
        found |= {s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced()}
        found |= _globals_inside(child)
    return found


def _changed_by(statement: ast.stmt) -> set[str]:
    """Return names whose value a statement may change: ``x[…] = …``, ``x.y = …``, ``x.append(…)``, ``fit(x, …)``."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(_base(node))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if isinstance(node.value.func, ast.Attribute):
                found.add(_base(node.value.func))
            if ast.unparse(node.value.func).split(".")[-1] not in READERS:
                found |= {_base(argument) for argument in node.value.args}
    return found - {""}


def _base(node: ast.expr) -> str:
    """Return the name that ``x[…].y`` begins with."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _makes(value: ast.expr, makers: set[str]) -> bool:
    return isinstance(value, ast.Call) and _base(value.func) in makers
