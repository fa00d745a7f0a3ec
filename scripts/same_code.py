"""Is the code the same, wherever it stands? The part `ast` of scripts/same_run.py.

    python scripts/same_run.py OLD NEW --only ast [--without_docstrings]

Each function, class and top-level statement is compared by `ast.dump`. What a move changes is taken out
first: imports of `lit_ft`, modules' names before a dot (`runs.read` is `read`); and `lit_ft.a.B` in texts
is `B`. So a call that now goes to another module's function of the same name is not seen here.
"""

import ast
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NAMES = re.compile(r"\blit_ft(?:\.\w+)*\.(\w+)")  # a dotted name -> its last part, which no move changes


def plain(text: str) -> str:
    """A text in which a move of modules does not show."""
    return NAMES.sub(r"\1", re.sub(r"\bfrom lit_ft[.\w]* import", "from lit_ft import", text))


class Plain(ast.NodeTransformer):
    """Takes out of a module's tree what a move changes: imports of `lit_ft`, and modules' names."""

    def __init__(self, tree: ast.Module, modules: set[str], without_docstrings: bool) -> None:
        self.without_docstrings = without_docstrings
        self.modules: set[str] = set()  # names under which this module knows others
        self.names: dict[str, str] = {}  # `import a as b`: b -> a
        for node in ast.walk(tree):
            for alias in node.names if _is_ours(node) else []:  # type: ignore[attr-defined]
                module = f"{getattr(node, 'module', None) or ''}.{alias.name}".strip(".")
                if module in modules or isinstance(node, ast.Import):
                    self.modules.add(alias.asname or alias.name)
                elif alias.asname:
                    self.names[alias.asname] = alias.name

    def visit_Import(self, node: ast.Import) -> Any:
        return None if _is_ours(node) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        return None if _is_ours(node) else node

    def visit_Name(self, node: ast.Name) -> Any:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if ast.unparse(node.value) in self.modules:
            return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Constant(plain(node.value)) if isinstance(node.value, str) else node

    def visit(self, node: ast.AST) -> Any:
        defines = isinstance(node, DEFINITIONS)
        if self.without_docstrings and defines and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        return super().visit(node)


def _is_ours(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").partition(".")[0] == "lit_ft"
    return isinstance(node, ast.Import) and any(a.name.partition(".")[0] == "lit_ft" for a in node.names)


def units(source: str, modules: set[str], without_docstrings: bool = False) -> Iterator[tuple[str, str]]:
    """(name, dump) of a module's functions, classes (methods apart) and other top-level statements.

    Args:
        source: The module's text.
        modules: Dotted names of all modules of the package.
        without_docstrings: Leave out the docstrings of functions and classes.
    """
    tree = ast.parse(source)
    change = Plain(tree, modules, without_docstrings)
    body = tree.body[ast.get_docstring(tree, clean=False) is not None :]
    waiting = [("", change.visit(node)) for node in body]
    while waiting:
        of, node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, DEFINITIONS)]
            waiting += [(f"{of}{node.name}.", method) for method in methods]
            node.body = [n for n in node.body if n not in methods]
        elif isinstance(node, ast.If):  # `if TYPE_CHECKING:` holds imports
            node.body = [n for n in node.body if not isinstance(n, (ast.Import, ast.ImportFrom))]
        if node is None or isinstance(node, (ast.Import, ast.ImportFrom)) or getattr(node, "body", 1) == []:
            if not isinstance(node, DEFINITIONS):
                continue
        name = getattr(node, "name", None) or re.split(r" [-+*|&]?=|:", ast.unparse(node))[0][:40]
        yield of + name, of + ast.dump(node)


def read_units(package: Path, without_docstrings: bool = False) -> dict[tuple[str, str], list[str]]:
    """(name, dump) of everything in a package, and the files that have it; other files by their bytes."""
    found: dict[tuple[str, str], list[str]] = {}
    files = [file for file in sorted(package.rglob("*")) if file.is_file() and file.suffix != ".pyc"]
    dotted = (f.relative_to(package.parent).with_suffix("") for f in files if f.suffix == ".py")
    modules = {".".join(place.parts).removesuffix(".__init__") for place in dotted}
    for file in [*files, *sorted(package.parent.glob("configs/*"))]:
        of_file = [(file.name, sha256(file.read_bytes()).hexdigest())]
        if file.suffix == ".py":
            of_file = list(units(file.read_text(encoding="utf-8"), modules, without_docstrings))
        for unit in of_file:
            found.setdefault(unit, []).append(str(file.relative_to(package.parent)))
    return found


def compare_units(old: dict[tuple[str, str], list[str]], new: dict[tuple[str, str], list[str]]) -> list[str]:
    """What disappeared, appeared or changed, by name, with the files."""
    gone: dict[str, list[str]] = {}
    come: dict[str, list[str]] = {}
    for into, one, other in ((gone, old, new), (come, new, old)):
        for unit, files in one.items():
            if (more := len(files) - len(other.get(unit, []))) > 0:
                into.setdefault(unit[0], []).extend(files[-more:])
    return [
        f"changed: {name} ({', '.join(gone[name])} -> {', '.join(come[name])})"
        if name in gone and name in come
        else f"disappeared: {name} ({', '.join(gone[name])})"
        if name in gone
        else f"appeared: {name} ({', '.join(come[name])})"
        for name in sorted(gone | come)
    ]
