"""Who may import what: each library behind one door, the runtime apart from training, the quick parts light.

Read from the source with ast. Imports inside functions count, those for type checkers only do not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "hvcodec": ROOT / "hvcodec",
    "hvcodec_cli": ROOT / "cli",
    "hvcodec_benchmarks": ROOT / "benchmarks",
}

# Each library and the only modules that may import it; a trailing dot stands for everything below.
DOORS = {
    "constriction": ("hvcodec.entropy",),
    "PIL": ("hvcodec.image", "hvcodec.png", "hvcodec_benchmarks."),
    "safetensors": ("hvcodec.model.weights", "hvcodec.train."),
    "click": ("hvcodec_cli.", "hvcodec_benchmarks."),
    "compressai": ("hvcodec_benchmarks.bridge",),
    "rich": ("hvcodec_cli.", "hvcodec.train.", "hvcodec_benchmarks."),
    "matplotlib": ("hvcodec_cli.plot", "hvcodec.train.", "hvcodec_benchmarks."),
    "torch": ("hvcodec.codec", "hvcodec.model.", "hvcodec.train.", "hvcodec_cli.", "hvcodec_benchmarks."),
}
# Modules that start quickly: whatever they import of ours, at any depth, needs the standard library only.
LIGHT = ("catalog", "container", "errors", "files", "info", "memory", "rate")
# Of ours, the command line sees what users of the library see, and where files and models are.
SEEN_BY_CLI = {
    "hvcodec",
    "hvcodec.api",
    "hvcodec.catalog",
    "hvcodec.container",
    "hvcodec.files",
    "hvcodec.image",
    "hvcodec.memory",
} | {
    "hvcodec.profile_search",
    "hvcodec.profiles",
    "hvcodec.rate",
    "hvcodec.targets",
    "hvcodec.train.",
    "hvcodec_benchmarks.",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            if not path.name.startswith("test_"):
                parts = [package, *path.relative_to(folder).with_suffix("").parts]
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def imports(module: str) -> set[str]:
    """The modules that a module imports, by their full names."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in at_run_time(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found.update(names & MODULES.keys() or {base})
    return found


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_run_time(node)


def is_among(module: str, allowed: set[str] | tuple[str, ...]) -> bool:
    return any(module == name or (name.endswith(".") and f"{module}.".startswith(name)) for name in allowed)


def test_the_modules_are_found() -> None:
    assert {"hvcodec", "hvcodec.codec", "hvcodec.model.weights", "hvcodec_cli.main"} <= MODULES.keys()
    assert "constriction" in imports("hvcodec.entropy")
    assert "hvcodec.errors" in imports("hvcodec.container")
    assert "hvcodec.model.weights" in imports("hvcodec.codec")


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_doors(library: str) -> None:
    users = {m for m in MODULES if any(name.split(".")[0] == library for name in imports(m))}
    assert {m for m in users if not is_among(m, DOORS[library])} == set()


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy_at_any_depth(name: str) -> None:
    reached, waiting = set(), {f"hvcodec.{name}"}
    while waiting:
        reached |= waiting
        waiting = {name for module in waiting & MODULES.keys() for name in imports(module)} - reached
    assert {m for m in reached - MODULES.keys() if m.split(".")[0] not in sys.stdlib_module_names} == set()


def test_the_container_knows_bytes_only() -> None:
    ours = {name for name in imports("hvcodec.container") if name.startswith("hvcodec")}
    assert ours == {"hvcodec.errors"}


def test_the_runtime_knows_nothing_of_training_commands_and_benchmarks() -> None:
    runtime = [m for m in MODULES if is_among(m, ("hvcodec.",)) and not is_among(m, ("hvcodec.train.",))]
    above = ("hvcodec.train.", "hvcodec_cli.", "hvcodec_benchmarks.")
    assert {(m, name) for m in runtime for name in imports(m) if is_among(name, above)} == set()
    assert {
        (m, n) for m in MODULES for n in imports(m) if is_among(m, ("hvcodec.",)) and is_among(n, above[1:])
    } == set()


def test_the_command_line_sees_the_public_side() -> None:
    commands = [m for m in MODULES if is_among(m, ("hvcodec_cli.",))]
    ours = {(m, name) for m in commands for name in imports(m) if name.split(".")[0].startswith("hvcodec")}
    assert {(m, n) for m, n in ours if not is_among(n, SEEN_BY_CLI | {"hvcodec_cli."})} == set()
