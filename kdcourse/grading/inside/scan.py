"""Names that no exercise needs, found in a learner's cells for a person to look at; nobody loses points by this alone.

The inner half of the grader. The parser reads what anybody may write, so it runs in the sandbox, before any of that is
run.
"""

import ast
import re
import sys

from .cells import plain_python

_MODULES = {
    "ast", "atexit", "builtins", "code", "codecs", "ctypes", "dis", "faulthandler", "fcntl", "gc", "imp", "importlib",
    "inspect", "linecache", "marshal", "mmap", "multiprocessing", "os", "pickle", "pty", "resource", "select", "shutil",
    "signal", "site", "socket", "subprocess", "sys", "threading", "traceback", "types", "urllib", "requests", "http",
}  # fmt: skip
_NAMES = {
    "exec", "eval", "compile", "__import__", "globals", "locals", "vars", "getattr", "setattr", "delattr", "attrgetter",
    "breakpoint", "open", "__builtins__", "__loader__", "__spec__",
}  # fmt: skip
# Modules that other modules hand on: torch.serialization.os is os.
_BACK_DOORS = {
    "atexit", "builtins", "ctypes", "gc", "importlib", "inspect", "multiprocessing", "os", "pickle", "socket",
    "subprocess", "sys", "threading",
}  # fmt: skip
_ATTRIBUTES = _BACK_DOORS | {
    "__code__", "__class__", "__globals__", "__closure__", "__builtins__", "__subclasses__", "__dict__", "__bases__",
    "__mro__", "__defaults__", "__kwdefaults__", "__getattribute__", "__self__", "__func__", "__reduce__", "f_back",
    "f_locals", "f_globals", "gi_frame", "tb_frame", "cr_frame", "_getframe", "_current_frames", "settrace",
    "setprofile", "addaudithook", "monitoring", "_exit", "attrgetter", "methodcaller", "load_inline", "read_pickle",
}  # fmt: skip
_COMPARISONS = {
    "__eq__",
    "__ne__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__bool__",
    "__float__",
    "__instancecheck__",
}


def suspicious(sources: list[str]) -> list[str]:
    """Return what a teacher should look at, each thing once, in the order it appears.

    Parameters
    ----------
    sources : list of str
        The learner's own cells.
    """
    found: dict[str, None] = {}
    for source in sources:
        try:
            tree = ast.parse(plain_python(source))
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue  # it will not run either
        modules = {"torch", "numpy", "np", "math", "kdcourse", "builtins"}
        for node in ast.walk(tree):
            found.update(dict.fromkeys(_look_at(node, modules)))
    return list(found)


def borrowed(answers: list[str], known: list[str] | None) -> list[str]:
    """Return the losses of the package that answers call and the key's do not: what was to be written, perhaps.

    Parameters
    ----------
    answers : list of str
        What stands in solution cells.
    known : list of str or None
        Words of the key's solutions; None if the key holds none.
    """
    losses = sys.modules.get("kdcourse.losses")
    if known is None or losses is None:
        return []
    names = set(losses.__all__) - set(known)
    words = {word for source in answers for word in re.findall(r"\w+", source)}
    defined = {name for source in answers for name in re.findall(r"(?:def|class) (\w+)", source)}
    return [f"uses {name} of the package" for name in sorted(names & words - defined)]


def _look_at(node: ast.AST, modules: set[str]) -> list[str]:
    if isinstance(node, ast.Import):
        modules.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        return [f"imports {alias.name}" for alias in node.names if alias.name.split(".")[0] in _MODULES]
    if isinstance(node, ast.ImportFrom):
        modules.update(alias.asname or alias.name for alias in node.names)
        module = node.module or ""
        if module.split(".")[0] in _MODULES or module.startswith("kdcourse.grading"):
            return [f"imports {module}"]
        return [f"imports {alias.name} from {module}" for alias in node.names if alias.name in _ATTRIBUTES]
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return [f"uses {node.id}"]
    if isinstance(node, ast.MatchClass):  # case object(__globals__=found)
        return [f"uses .{name}" for name in node.kwd_attrs if name in _ATTRIBUTES]
    if isinstance(node, ast.Attribute):
        if node.attr in _ATTRIBUTES:
            return [f"uses .{node.attr}"]
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(node.ctx, ast.Store) and isinstance(root, ast.Name) and root.id in modules:
            return [f"sets {ast.unparse(node)}"]
        return []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if node.name in _COMPARISONS:
            return [f"defines {node.name}"]
        return [f"defines {node.name}"] if node.name.startswith("check_") else []
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.startswith("check_"):
        return [f"sets {node.id}"]
    return []
