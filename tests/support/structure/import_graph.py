"""The structure of the code: modules, folders, what imports what, and circles."""

import ast
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

TOPS = ("mods_grpc", "training", "benchmarks", "examples", "tests")
GENERATED = "mods_grpc/v1"
MAX_MODULES = 15


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the checkout: its import name, its path, and the modules of the checkout that it imports."""

    name: str
    path: Path
    imports: frozenset[str]


def module_paths(top: str) -> list[Path]:
    """Return the hand-written modules under a top-level folder."""
    return sorted(path for path in (ROOT / top).rglob("*.py") if not path.is_relative_to(ROOT / GENERATED))


def import_name(path: Path) -> str:
    """Return the name that a module is imported by; that of the package for `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text())


@functools.cache
def walk(path: Path) -> tuple[ast.AST, ...]:
    """Return the nodes of a module's syntax tree that carry names, as `ast.walk` orders them."""
    kinds = (ast.Import, ast.ImportFrom, ast.Name, ast.arg, ast.Assign)
    return tuple(node for node in ast.walk(parse(path)) if isinstance(node, kinds))


@functools.cache
def imported_names(path: Path) -> tuple[str, ...]:
    """Return what a module imports, also inside functions and under TYPE_CHECKING, as `package.module.name`.

    Raises:
        ValueError: A relative import.
    """
    names: list[str] = []
    for node in walk(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}: relative import")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def read_modules(tops: Iterable[str] = TOPS) -> dict[str, Module]:
    """Return the modules under the folders, by import name."""
    paths = {import_name(path): path for top in tops for path in module_paths(top)}

    def resolve(name: str) -> str | None:
        if name.startswith(GENERATED.replace("/", ".")):
            return None
        while name and name not in paths:
            name = name.rpartition(".")[0]
        return name or None

    modules = {}
    for name, path in paths.items():
        targets = {resolve(imported) for imported in imported_names(path)} - {None, name}
        modules[name] = Module(name, path, frozenset(target for target in targets if target))
    return modules


def package_imports(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return which packages each package imports. A module whose folder holds packages too counts as a package of its own."""
    with_packages = {str(module.path.parent.parent) for module in modules.values() if module.path.name == "__init__.py"}

    def package_of(module: Module) -> str:
        folder = module.path.parent
        return module.name if str(folder) in with_packages else import_name(folder / "__init__.py")

    package = {name: package_of(module) for name, module in modules.items()}
    graph: dict[str, set[str]] = {name: set() for name in package.values()}
    for name, module in modules.items():
        graph[package[name]] |= {package[target] for target in module.imports} - {package[name]}
    return graph


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972), sorted."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in graph:
                continue
            if target not in index:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], index[target])
        if lowest[node] == index[node]:
            cut = stack.index(node)
            component = sorted(stack[cut:])
            del stack[cut:]
            if len(component) > 1:
                components.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(components)


def folder_sizes(modules: Mapping[str, Module]) -> Counter[str]:
    """Return how many modules lie in each folder, `__init__` included."""
    return Counter(str(module.path.parent.relative_to(ROOT)) for module in modules.values())


def import_circles(modules: Mapping[str, Module]) -> list[list[str]]:
    """Return circles of modules, and circles of packages that are not circles of modules."""
    return circles({name: module.imports for name, module in modules.items()}) + circles(package_imports(modules))
