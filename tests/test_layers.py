"""The four layers import one way: storage <- replication <- ops <- node. A log exists without peers, peers without an
API, an API without a process.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("storage", "replication", "ops", "node")


def modules() -> Iterator[Path]:
    for layer in LAYERS:
        yield from sorted((ROOT / layer).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            yield node.module or "", node.lineno


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_no_layer_above_its_own(path: Path) -> None:
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    upward = [
        f"line {line}: {name}"
        for name, line in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in LAYERS[layer + 1 :]
    ]
    assert not upward


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stand_at_the_top_of_a_module(path: Path) -> None:
    tree = ast.parse(path.read_text())
    hidden = [
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not hidden
