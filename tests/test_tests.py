"""What keeps the tests honest: each says why, lies where its module lies, and asserts nothing about speed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.test_structure import PACKAGES, ROOT, TESTS, name_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_every_test_says_why() -> None:
    """A test without a reason is deleted by the next who finds it in the way."""
    tests = (
        (name_of(path), node)
        for path in TESTS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )
    assert [f"{file}: {node.name}" for file, node in tests if not ast.get_docstring(node)] == []


# Tests of how several modules behave together: they mirror no module.
BEHAVIOURS = {
    "exporter/test_packaging.py",
    "workload/experiments/test_nothing_answered.py",
    "workload/promql/test_queries.py",
}


def mirrors(test: str, there: Callable[[str], bool]) -> bool:
    """Return whether a test file is named after a module or a package, and perhaps after one side of it.

    `test` is a path inside tests/; `there` says whether a path of the repository exists.
    """
    folder, _, name = test.rpartition("/")
    words = name.removeprefix("test_").removesuffix(".py").split("_")
    begun = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    subjects = [folder if subject == folder.rpartition("/")[2] else f"{folder}/{subject}" for subject in begun]
    return any(there(f"{subject}.py") or there(f"{subject}/__init__.py") for subject in subjects)


def test_every_test_mirrors_a_module() -> None:
    """The tests of a module are found by its name; a module that moved would leave them under a name of the past."""
    inner = (path.relative_to(ROOT / "tests") for path in TESTS if path.name.startswith("test_"))
    names = {str(path) for path in inner if path.parts[0] in PACKAGES}
    lost = {name for name in names if not mirrors(name, lambda path: (ROOT / path).exists())}
    assert lost == BEHAVIOURS


@pytest.mark.parametrize(
    ("test", "is_mirror"),
    [
        ("workload/harness/test_loops.py", True),
        ("workload/harness/test_loops_open.py", True),
        ("workload/corpus/test_synthetic.py", True),
        ("workload/harness/test_open_loop.py", False),
        ("workload/test_loops.py", False),
    ],
)
def test_a_test_of_no_module_is_seen(test: str, is_mirror: bool) -> None:
    """A check that finds nothing anywhere proves nothing."""
    there = {"workload/harness/loops.py", "workload/corpus/synthetic/__init__.py"}
    assert mirrors(test, there.__contains__) is is_mirror


CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns", "process_time"}
# path: why a duration by the real clock is compared there after all.
TIMED: dict[str, str] = {}


def clocked(node: ast.AST, instants: set[str], durations: set[str]) -> bool:
    """Return whether an expression has a duration in it: a subtracted instant, or a name of such a difference."""
    return any(
        (isinstance(part, ast.Name) and part.id in durations)
        or (
            isinstance(part, ast.BinOp)
            and isinstance(part.op, ast.Sub)
            and (
                is_instant(part.right, instants) or (is_instant(part.left, set()) and isinstance(part.right, ast.Name))
            )
        )
        for part in ast.walk(node)
    )


def is_instant(node: ast.AST, instants: set[str]) -> bool:
    """Return whether an expression is a reading of the real clock, or the name of one."""
    if isinstance(node, ast.Name):
        return node.id in instants
    call = node.func if isinstance(node, ast.Call) else None
    return isinstance(call, ast.Attribute) and ast.unparse(call.value) == "time" and call.attr in CLOCKS


def timed_assertions(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each assertion about how long something took."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        instants: set[str] = set()
        durations: set[str] = set()
        for step in sorted(
            (node for node in ast.walk(function) if hasattr(node, "lineno")), key=lambda one: one.lineno
        ):
            if isinstance(step, ast.Assign):
                names = {target.id for target in step.targets if isinstance(target, ast.Name)}
                if is_instant(step.value, instants):
                    instants |= names
                elif clocked(step.value, instants, durations):
                    durations |= names
            elif isinstance(step, ast.Assert) and clocked(step.test, instants, durations):
                yield step.lineno


def test_no_test_asserts_how_long_something_took() -> None:
    """On a busy machine it fails, on an idle one it proves nothing; clocks are injected, speed is in benchmarks/."""
    found = {
        f"{name_of(path)}:{line}"
        for path in TESTS
        if name_of(path) not in TIMED
        for line in timed_assertions(tree_of(path))
    }
    assert not found
    assert all((ROOT / name).exists() for name in TIMED)


@pytest.mark.parametrize(
    ("body", "is_timed"),
    [
        ("a = time.monotonic(); work(); assert time.monotonic() - a < 3", True),
        ("a = time.perf_counter(); work(); took = time.perf_counter() - a; assert took < 3", True),
        ("a = time.time(); work(); assert approx(time.time() - a) == 1", True),
        ("assert max(time.monotonic() - at for at in begun) < 1", True),
        ("until = time.monotonic() + 5\n  while time.monotonic() < until: work()\n  assert done", False),
        ("a = clock(); work(); assert clock() - a == 3", False),
        ("a = time.time(); found = query(a - 60, a); assert found", False),
        ("a = time.monotonic(); work(); assert at >= a", False),
    ],
)
def test_a_timed_assertion_is_distinguished_from_a_wait(body: str, is_timed: bool) -> None:
    """A rule that is blind, or that forbids every deadline, would be switched off."""
    assert bool(list(timed_assertions(ast.parse(f"def test():\n  {body}")))) is is_timed
