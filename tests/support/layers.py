"""Read the rules of the house out of the code, by ``ast``; ``test_layers.py`` holds them against the tables there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "compose", "settings", "web", "repositories", "tenancy", "utils", "migrations")


@dataclass(frozen=True)
class Import:
    """One import: what is imported, from which line, whether a function waits with it, whether only types need it."""

    module: str
    line: int
    lazy: bool
    types_only: bool


@dataclass(frozen=True)
class Source:
    """One file of the project, by its path from the project's folder."""

    path: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        return cls(path, ast.parse(text))

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        return self.module.partition(".")[0]

    def imports(self) -> Iterator[Import]:
        lazy = {id(inner) for outer in ast.walk(self.tree) if _is_function(outer) for inner in ast.walk(outer)}
        typed = {id(inner) for outer in ast.walk(self.tree) if _is_for_types(outer) for inner in ast.walk(outer)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for module in self._imported(node):
                    yield Import(module, node.lineno, id(node) in lazy, id(node) in typed)

    def _imported(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        """Give full names: of a module (``from tenancy import names``) or of something in one."""
        base = f"{self._absolute(node)}." if isinstance(node, ast.ImportFrom) else ""
        return [f"{base}{alias.name}" for alias in node.names]

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".") if self.path.endswith("__init__.py") else self.module.split(".")[:-1]
        return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])

    def words(self) -> Iterator[tuple[int, str]]:
        """Give every name and every text of the code with its line; docstrings and comments are for people."""
        prose = set(_docstrings(self.tree))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield node.lineno, node.value
            elif isinstance(node, ast.Name):
                yield node.lineno, node.id
            elif isinstance(node, ast.Attribute):
                yield node.lineno, node.attr
        for found in self.imports():
            yield found.line, found.module

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))


def sources(*rooms: str) -> Iterator[Source]:
    """Go through the project's files, or those of some of its first folders."""
    for room in rooms or ROOMS:
        yield from _sources_of(room)


@cache
def _sources_of(room: str) -> tuple[Source, ...]:
    single = PROJECT / f"{room}.py"
    files = [single] if single.exists() else sorted((PROJECT / room).rglob("*.py"))
    return tuple(Source.of(file.relative_to(PROJECT).as_posix(), file.read_text(encoding="utf-8")) for file in files)


def foreign_rooms(source: Source, allowed: dict[str, frozenset[str]], lazily: dict[str, str]) -> list[str]:
    """Name imports of a room that this room may not import; ``lazily`` excepts one room for one file, in functions."""
    wrong = []
    for found in source.imports():
        room = found.module.partition(".")[0]
        if room not in allowed or room == source.room or room in allowed[source.room]:
            continue
        if not (found.lazy and lazily.get(source.path) == room):
            wrong.append(f"{source.path}:{found.line}: {source.room} may not import {found.module}")
    return wrong


@dataclass(frozen=True)
class Order:
    """The order of one package's parts: a part imports those of the steps before its own.

    Spaces separate the parts of a step; ``|`` stands between neighbours that do not know each other. A part is a module
    or a folder of the package. ``itself`` is the package's own ``__init__``.
    """

    package: str
    steps: tuple[str, ...]

    def part_of(self, module: str) -> str | None:
        """Give the part of the package in which a module stands, or ``itself``; None for what stands elsewhere."""
        if module == self.package:
            return "itself"
        if not module.startswith(f"{self.package}."):
            return None
        return module.removeprefix(f"{self.package}.").partition(".")[0]

    def places(self) -> dict[str, tuple[int, int]]:
        """Give each part's step, and which of the neighbours in it the part belongs to."""
        return {
            part: (level, side)
            for level, step in enumerate(self.steps)
            for side, group in enumerate(step.split("|"))
            for part in group.split()
        }


def wrong_order(source: Source, order: Order) -> list[str]:
    """Name the imports of a package's module that go to a later step, or to a neighbour.

    An import that only types need runs nothing, and is left aside.
    """
    own, places = order.part_of(source.module), order.places()
    if own is None:
        return []
    if own not in places and own != "itself":
        return [f"{source.path}: {own} has no place in the order of {order.package}"]
    wrong = []
    for found in source.imports():
        other = order.part_of(_module(found.module))
        if found.types_only or other in (None, own):
            continue
        level, side = places.get(own, (-1, 0))
        there, beside = places.get(other or "", (len(order.steps), 0))
        if there > level or (there == level and beside != side):
            wrong.append(f"{source.path}:{found.line}: {order.package}: {own} may not import {other}")
    return wrong


@cache
def _modules() -> frozenset[str]:
    return frozenset(source.module for source in sources())


def _module(name: str) -> str:
    """Give the module that an import loads; what is not one is a name in one."""
    return name if name in _modules() else name.rpartition(".")[0]


def cycles(files: Iterable[Source]) -> list[str]:
    """Give import cycles between modules, one line for each that closes."""
    by_module = {source.module: source for source in files}
    graph = {module: sorted(_neighbours(source, by_module) - {module}) for module, source in by_module.items()}
    done: set[str] = set()
    closed: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            closed.append(" -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        for other in graph[module]:
            visit(other, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())
    return closed


def _neighbours(source: Source, modules: dict[str, Source]) -> set[str]:
    """Give the modules of this project that one needs when it runs."""
    names = {found.module for found in source.imports() if not found.types_only}
    return {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()


def libraries(source: Source, pattern: str) -> list[str]:
    wrong = (found for found in source.imports() if re.fullmatch(pattern, found.module.partition(".")[0]))
    return [f"{source.path}:{found.line}: {found.module} is not imported here" for found in wrong]


def said(source: Source, pattern: re.Pattern[str]) -> list[str]:
    """Name the lines whose code, docstrings and comments aside, holds a word."""
    return [f"{source.path}:{line}: {m.group()!r}" for line, word in source.words() if (m := pattern.search(word))]


def environment_reads(source: Source, but_for: str) -> list[str]:
    """Name every look into the environment, one variable of somebody else's excepted."""
    names = {t.id for t, value in _constants(source.tree) if _says(value, but_for)}
    excepted = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Subscript) and _says(node.slice, but_for, names):
            excepted.add(id(node.value))
        elif isinstance(node, ast.Call) and node.args and _says(node.args[0], but_for, names):
            excepted.update({id(node.func), id(getattr(node.func, "value", None))})
        elif isinstance(node, ast.Compare) and _says(node.left, but_for, names):
            excepted.update(id(right) for right in node.comparators)
    wrong = [
        f"{source.path}:{node.lineno}: os.{node.attr}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv", "putenv", "unsetenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and id(node) not in excepted
    ]
    named = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    return wrong + [f"{source.path}:{i.line}: {i.module}" for i in source.imports() if i.module in named]


_OPENERS = {"open", "fdopen", "FileIO", "read_bytes", "read_text", "write_bytes", "write_text", "sendfile", "mmap"}
_OPENERS |= {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "link"}
_OWNERS = {"os", "io", "shutil", "mmap", "path", "Path"}


def raw_file_access(source: Source) -> list[str]:
    """Name every call that opens, reads, writes or copies a file by other means than SQLite."""
    wrong = []
    for call in source.calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in _OPENERS and _is_file_call(call.func, name):
            wrong.append(f"{source.path}:{call.lineno}: {name}()")
    return wrong


def _is_file_call(func: ast.expr, name: str) -> bool:
    """Tell ``Path.open`` and ``shutil.copy`` from a keyring's ``open`` and a dict's ``copy``."""
    if isinstance(func, ast.Name) or name not in ("open", "copy", "link", "mmap"):
        return True
    owner = func.value if isinstance(func, ast.Attribute) else func
    last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return isinstance(owner, ast.Call | ast.BinOp) or last in _OWNERS or last.endswith(("path", "file"))


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _constants(tree: ast.Module) -> Iterator[tuple[ast.Name, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0], node.value


def _says(node: ast.expr, text: str, names: Iterable[str] = ()) -> bool:
    """Tell whether an expression is a text, written out or under one of its names."""
    return (isinstance(node, ast.Constant) and node.value == text) or (isinstance(node, ast.Name) and node.id in names)


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) or [] if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield id(statement.value)
