"""What no exercise needs, found in a learner's cells for a person to look at; nobody loses points by this alone.

The inner half of the grader. The parser reads what anybody may write, so it runs in the sandbox, before any of that is
run. Imports are compared with a list of what exercises need, because a list of what is dangerous never ends.
"""

import ast
import re
import sys
from collections.abc import Iterator

from .cells import plain_python

# By their first word. What is not here is told, even if it is harmless.
_ORDINARY_IMPORTS = {
    "IPython", "PIL", "__future__", "abc", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "enum", "fractions", "functools", "heapq", "ipywidgets", "itertools", "json", "kdcourse",
    "math", "matplotlib", "numbers", "numpy", "operator", "pandas", "pprint", "random", "re", "scipy", "seaborn",
    "sklearn", "statistics", "string", "textwrap", "time", "torch", "torchvision", "tqdm", "typing", "warnings",
}  # fmt: skip
_NAMES = {
    "exec", "eval", "compile", "globals", "locals", "vars", "getattr", "setattr", "delattr", "breakpoint", "open",
}  # fmt: skip
# Modules that other modules hand on: torch.serialization.os is os.
_MODULES_HANDED_ON = {
    "ast", "asyncio", "atexit", "builtins", "codecs", "concurrent", "ctypes", "dis", "faulthandler", "fcntl", "gc",
    "importlib", "inspect", "linecache", "marshal", "mmap", "multiprocessing", "os", "pathlib", "pickle", "pkgutil",
    "posix", "resource", "runpy", "shutil", "signal", "socket", "subprocess", "sys", "sysconfig", "tempfile",
    "threading", "timeit", "traceback", "tracemalloc", "types", "unittest", "urllib", "weakref", "zipimport", "_thread",
}  # fmt: skip
_ATTRIBUTES = _MODULES_HANDED_ON | {
    # frames and tracebacks
    "f_back", "f_builtins", "f_code", "f_globals", "f_locals", "gi_frame", "gi_code", "cr_frame", "ag_frame",
    "tb_frame", "tb_next", "exc_info", "currentframe", "get_stack", "walk_stack", "with_traceback", "extract_tb",
    # code and modules found by name or made from text
    "Formatter", "ForwardRef", "attrgetter", "exec_module", "find_spec", "get_field", "get_type_hints",
    "import_module", "load_module", "locate", "methodcaller", "resolve_name", "run_module",
    "run_path", "runctx", "runstring", "safe_eval", "update_wrapper", "vformat",
    # watching and ending
    "addaudithook", "monitoring", "setprofile", "settrace", "set_trace",
    # memory, and code of other languages
    "as_strided", "cpp_extension", "ctypeslib", "data_ptr", "f2py", "from_address", "load_inline", "load_library",
    "read_pickle",
    # bending torch's calls, or those of tables
    "TorchDispatchMode", "TorchFunctionMode", "enable_python_dispatcher", "saved_tensors_hooks",
    "register_dataframe_accessor", "register_series_accessor", "register_index_accessor",
}  # fmt: skip
_OF_MODULES = {  # what a module has by these names; anything else may be called so
    "check", "find_turn", "fx", "hub", "library", "measure", "package", "read_turns", "rundocs", "solution_of", "turns",
}  # fmt: skip
_ORDINARY_DUNDERS = {
    "__annotations__", "__call__", "__doc__", "__enter__", "__exit__", "__file__", "__getitem__", "__init__",
    "__iter__", "__len__", "__main__", "__name__", "__next__", "__post_init__", "__repr__", "__str__", "__version__",
}  # fmt: skip
_OPERATORS = {  # that classes may define beside these; by any other an object can answer for more than it is
    f"__{name}__"
    for operator in (
        "add", "and", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift", "sub", "truediv", "xor",
    )
    for name in (operator, f"r{operator}", f"i{operator}")
} | {
    "__abs__", "__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__contains__", "__delitem__",
    "__format__", "__hash__", "__index__", "__int__", "__invert__", "__missing__", "__neg__", "__new__", "__pos__",
    "__reversed__", "__round__", "__setitem__",
}  # fmt: skip
_ORDINARY_STORES = {"data", "grad", "requires_grad", "training"}
_CODE_IN_TEXT = re.compile(r"\b(?:compile|delattr|eval|exec|getattr|globals|setattr|vars) *\(|^(?:eval|exec|getattr)$")
_HIDDEN_IN_TEXT = re.compile(r"__\w+__|\b(?:f_back|f_globals|f_locals|tb_frame|gi_frame)\b|\.ipynb\b|\bkdcourse/keys\b")
_CHECKS = "kdcourse.checks"  # as a whole it holds all right answers; its functions are imported by name
_NOT_LOOKED_AT = "a cell that cannot be looked at, too deep for Python's parser"


def suspicious(sources: list[str]) -> list[str]:
    """Return what a teacher should look at, each thing once, in the order it appears.

    Parameters
    ----------
    sources : list of str
        The learner's own cells.
    """
    trees = list(_trees(sources))
    look = _Look(trees)
    if len(trees) < len(sources) and any(map(_is_too_deep, sources)):
        look.tell(_NOT_LOOKED_AT)
    for tree in trees:
        try:
            look.visit(tree)
        except RecursionError:
            look.tell(_NOT_LOOKED_AT)
    return list(look.found)


def taken_from_the_package(sources: list[str], asked: list[str]) -> list[str]:
    """Return which of the package's own answers are used where a learner's own is asked for.

    Parameters
    ----------
    sources : list of str
        The learner's own cells.
    asked : list of str
        Names of the package's functions and classes that would be the answer; the key says which.
    """
    imported: set[str] = set()
    used: set[str] = set()
    defined: set[str] = set()
    for tree in _trees(sources):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.alias):
                imported.update(node.name.split("."))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
    return [f"uses {name} of the package" for name in asked if name in (used - defined) | imported]


def _trees(sources: list[str]) -> Iterator[ast.Module]:
    for source in sources:
        try:
            yield ast.parse(plain_python(source))
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue  # it will not run either


def _is_too_deep(source: str) -> bool:
    """Whether the parser gave up for the depth of a cell; a learner's cell may raise that limit, and then it runs."""
    try:
        ast.parse(plain_python(source))
    except (MemoryError, RecursionError):
        return True
    except (SyntaxError, ValueError):
        pass
    return False


class _Look(ast.NodeVisitor):
    """Visits all cells of a submission, and collects what to tell."""

    def __init__(self, trees: list[ast.Module]) -> None:
        self.found: dict[str, None] = {}
        # Locked cells import these; a learner's own imports come on top.
        self.modules = {"F", "np", "pd", "plt", "torch"} | ({"losses", "models", "nn", "plots", "zoo"} - _bound(trees))
        self.from_modules = {"kdcourse", "numpy", "builtins"}
        self.made: set[str] = set()  # names of objects that a call has made
        self.methods: dict[str, set[str]] = {}  # of the learner's own classes
        self.scopes: list[ast.AST] = []
        for node in (node for tree in trees for node in ast.walk(tree)):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.made.update(target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.ClassDef):
                self.methods[node.name] = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}

    def tell(self, text: str) -> None:
        self.found[text] = None

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.modules.add(alias.asname or alias.name.split(".")[0])
            if alias.name == _CHECKS or _is_odd_module(alias.name):
                self.tell(f"imports {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or "."
        if node.level or _is_odd_module(module):
            self.tell(f"imports {module}")
        for alias in node.names:
            is_module = f"{module}.{alias.name}" in sys.modules
            (self.modules if is_module else self.from_modules).add(alias.asname or alias.name)
            whole = f"{module}.{alias.name}"
            odd = whole == _CHECKS or (_is_odd_module(whole) and not _is_odd_module(module))
            if odd or _is_odd_attribute(alias.name) or (is_module and alias.name in _OF_MODULES):
                self.tell(f"imports {alias.name} from {module}")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _NAMES or (_is_dunder(node.id) and node.id not in _ORDINARY_DUNDERS) or node.id in _ATTRIBUTES:
            self.tell(f"uses {node.id}")
        if isinstance(node.ctx, ast.Load) and node.id in self.modules:
            self.tell(f"uses {node.id} as a value")  # where it stands before a dot, visit_Attribute has seen it
        if isinstance(node.ctx, ast.Store) and node.id.startswith("check_"):
            self.tell(f"sets {node.id}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root = _root_of(node)
        name = root.id if isinstance(root, ast.Name) else ""
        if not isinstance(node.ctx, ast.Load) and self._is_odd_store(node, name):
            self.tell(f"sets {ast.unparse(node)}")
        private = node.attr.startswith("_") and not _is_dunder(node.attr) and name not in ("self", "cls")
        odd = _is_odd_attribute(node.attr) or (node.attr in _OF_MODULES and name in self.modules)
        if odd or private or (_is_dunder(node.attr) and node.attr not in _ORDINARY_DUNDERS):
            self.tell(f"uses .{node.attr}")
        if name == "kdcourse" and {"grading", "checks", "commands"} & set(ast.unparse(node).split(".")):
            self.tell(f"uses {ast.unparse(node)}")
        if isinstance(node.value, ast.Name):
            if node.attr in self.methods.get(node.value.id, ()):
                self.tell(f"calls {node.value.id}.{node.attr} without an object")
            if node.value.id in self.modules:
                return
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) > 1:
            self.tell("makes a class with type()")
        if isinstance(node.func, ast.Attribute) and (node.args or node.keywords):
            text = bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            if node.func.attr == "eval" or (node.func.attr == "query" and text):
                self.tell(f"calls .{node.func.attr} with a text")
            if node.func.attr in ("format", "format_map") and not isinstance(node.func.value, ast.Constant):
                self.tell("formats a text that is not written out")
            if node.func.attr == "wraps" and len(node.args) + len(node.keywords) > 1:
                self.tell("calls .wraps with names of its own")
        for keyword in node.keywords:
            if keyword.arg in ("allow_pickle", "check_invariants", "weights_only"):
                self.tell(f"sets {keyword.arg}")
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        for name in node.kwd_attrs:  # case object(__globals__=found)
            if name in _ATTRIBUTES or (_is_dunder(name) and name not in _ORDINARY_DUNDERS):
                self.tell(f"uses .{name}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            for word in _HIDDEN_IN_TEXT.findall(node.value):
                if word not in _ORDINARY_DUNDERS:
                    self.tell(f"a text with {word[:50]}")
            for word in _CODE_IN_TEXT.findall(node.value):
                self.tell(f"a text with {word}")

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        odd = _is_dunder(node.name) and node.name not in _ORDINARY_DUNDERS | _OPERATORS
        if odd or node.name.startswith("check_"):
            self.tell(f"defines {node.name}")
        self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if node.name.startswith("check_"):
            self.tell(f"defines {node.name}")
        self._inside(node)

    def _inside(self, node: ast.AST) -> None:
        self.scopes.append(node)
        self.generic_visit(node)
        self.scopes.pop()

    def _is_odd_store(self, node: ast.Attribute, root: str) -> bool:
        """Whether an attribute is set on something that the learner's own code has not made."""
        if root in self.modules or root in self.from_modules or not root:
            return True
        if node.attr in _ORDINARY_STORES:
            return False
        parameters: set[str] = set()
        for scope in self.scopes:
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                every = scope.args
                given = [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]
                parameters.update(argument.arg for argument in given if argument is not None)
        in_a_method = len(self.scopes) > 1 and any(isinstance(scope, ast.ClassDef) for scope in self.scopes)
        if root in ("self", "cls") and in_a_method:
            return False
        return root in parameters or root not in self.made


def _bound(trees: list[ast.Module]) -> set[str]:
    """Return the names that a submission assigns, or gives to parameters."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    return assigned | {node.arg for node in nodes if isinstance(node, ast.arg)}


def _root_of(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and len(name) > 4


def _is_odd_attribute(name: str) -> bool:
    """Whether a name is on the list, or one of those that put a hook on every module or optimizer of torch's."""
    return name in _ATTRIBUTES or name.startswith(("register_module_", "register_optimizer_"))


def _is_odd_module(name: str) -> bool:
    words = name.split(".")
    if words[0] not in _ORDINARY_IMPORTS or any(word in _ATTRIBUTES or word in _OF_MODULES for word in words[1:]):
        return True
    if words[0] == "IPython":
        return words[1:2] != ["display"]
    if words[0] == "kdcourse":
        inner = words[1:2] in (["grading"], ["commands"], ["keys"])
        return inner or (words[1:2] == ["checks"] and len(words) > 2 and not words[2].startswith("check_"))
    return any(word.startswith("_") for word in words[1:])
