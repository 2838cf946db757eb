"""What keeps the code readable and its parts apart, checked instead of promised."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
PACKAGES = ("exporter", "workload")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 300
MAX_MEDIAN_LINES = 110
# From the ground up: a floor imports only floors below it, types included. CONTRIBUTING.md says what lies where.
FLOORS = (
    *("exporter/errors", "exporter/plain_text", "exporter/files", "exporter/timeline", "exporter/gpu"),
    *("exporter/agent", "exporter/timed_call", "exporter/collector", "exporter/host", "exporter/web"),
    *("exporter/langgraph", "exporter/service", "exporter/cli", "exporter/reference"),
    *("workload/errors", "workload/paths", "workload/files", "workload/statistics", "workload/theory"),
    *("workload/promql", "workload/services", "workload/engine", "workload/settings", "workload/corpus"),
    *("workload/record", "workload/agent", "workload/analysis", "workload/panels", "workload/charts"),
    *("workload/experiment", "workload/dashboards", "workload/export", "workload/report", "workload/compose"),
    *("workload/harness", "workload/kv_cache", "workload/experiments", "workload/demo", "workload/soak"),
    *("workload/doctor", "workload/commands", "workload/cli"),
)
FLAT = {"cli", "settings", "experiment", "errors", "paths"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return what a file says; it is parsed once for all tests."""
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    """Return a path as it stands in the repository."""
    return str(path.relative_to(ROOT))


def lines_of(path: Path) -> int:
    """Return a file's number of lines."""
    return len(path.read_text().splitlines())


def imported(path: Path) -> Iterator[str]:
    """Yield each module that a file names in an import statement, those for types alone included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def floor_of(module: str) -> str:
    """Return the floor on which a module lies: its folder, or its own name where it lies flat."""
    return "/".join(module.removesuffix(".py").split("/")[:2])


def house_imports(path: Path) -> Iterator[str]:
    """Yield the floor of each module of ours that a file imports."""
    for node in ast.walk(tree_of(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if "." not in node.module else [node.module]
        yield from (floor_of(name.replace(".", "/")) for name in names if name.split(".")[0] in PACKAGES)


def climbs(files: Iterable[tuple[str, Iterable[str]]], floors: tuple[str, ...] = FLOORS) -> list[str]:
    """Return the arrows, from a file to the floors that it imports, that do not lead down."""
    height = {floor: number for number, floor in enumerate(floors)}
    return [
        f"{name} -> {target}"
        for name, targets in files
        for target in sorted({*targets})
        if target != floor_of(name) and height[target] >= height[floor_of(name)]
    ]


def importers_of(top: str, paths: list[Path]) -> list[str]:
    """Return the files that import a package or a part of it."""
    return [name_of(path) for path in paths if any(name.split(".")[0] == top for name in imported(path))]


def swallowing(path: Path) -> Iterator[int]:
    """Yield the line of each handler that catches everything and does nothing."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            kinds = {
                ast.unparse(kind)
                for kind in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])
                if kind
            }
            does_nothing = all(isinstance(step, ast.Pass | ast.Continue) or is_literal(step) for step in node.body)
            if does_nothing and (not kinds or kinds & {"Exception", "BaseException"}):
                yield node.lineno


def is_literal(step: ast.stmt) -> bool:
    """Return whether a statement is an ellipsis or a string."""
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)


def test_no_file_is_too_long() -> None:
    """Every admired repository that hurts to read hurts at its largest file."""
    assert {name_of(path): lines_of(path) for path in (*SOURCES, *TESTS) if lines_of(path) > MAX_LINES} == {}


def test_files_are_short_in_the_middle() -> None:
    """The median is what a reader meets; empty packages do not count towards it."""
    assert median(lines for lines in map(lines_of, SOURCES) if lines > 1) <= MAX_MEDIAN_LINES


def test_every_import_leads_down() -> None:
    """Whoever reads a floor need not know what lies above it; without an upward arrow there is no circle either."""
    inner = [path for path in SOURCES if path.name != "__init__.py" or len(path.relative_to(ROOT).parts) > 2]
    assert climbs((name_of(path), house_imports(path)) for path in inner) == []


def test_every_floor_has_its_place() -> None:
    """A new folder is put where it belongs, before something imports it from everywhere; one that went is taken out."""
    there = {floor_of(name_of(path)) for path in SOURCES} - {f"{package}/__init__" for package in PACKAGES}
    assert there == set(FLOORS)


def test_an_arrow_that_climbs_is_seen() -> None:
    """A check that finds nothing anywhere proves nothing; a circle of two floors has an arrow that climbs."""
    floors = ("workload/paths", "workload/record", "workload/harness")
    files = [
        ("workload/record/journal.py", ["workload/paths", "workload/record"]),
        ("workload/record/window.py", ["workload/harness"]),
        ("workload/harness/run.py", ["workload/record"]),
    ]
    assert climbs(files, floors) == ["workload/record/window.py -> workload/harness"]


def test_few_modules_lie_flat() -> None:
    """A heap of flat files tells no story: a sixth one belongs into a room."""
    assert {path.stem for path in (ROOT / "workload").glob("*.py")} - {"__init__"} == FLAT


def test_the_exporter_stands_alone() -> None:
    """It is installed beside any vLLM; the agent, Chroma and torch must not come with it, not even for types."""
    assert importers_of("workload", [path for path in SOURCES if name_of(path).startswith("exporter/")]) == []
    assert importers_of("exporter", SOURCES)


def test_nvml_has_one_door() -> None:
    """A machine without a driver is served only if nobody else touches the library."""
    assert [name_of(path) for path in SOURCES if "pynvml" in loaded(path)] == ["exporter/gpu/nvml.py"]


def loaded(path: Path) -> set[str]:
    """Return what a file imports, by statement or by `import_module`."""
    calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call) and node.args)
    by_name = {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.args[0], ast.Constant) and ast.unparse(call.func).endswith("import_module")
    }
    return by_name | {name.split(".")[0] for name in imported(path)}


def test_no_code_imports_the_tests() -> None:
    """What ships must run where the tests do not lie."""
    assert importers_of("tests", SOURCES) == []


def test_no_failure_is_swallowed() -> None:
    """A failure is data; where everything is caught and nothing done, the next reader sees a zero instead."""
    assert [f"{name_of(path)}:{line}" for path in SOURCES for line in swallowing(path)] == []


def test_the_check_for_swallowed_failures_sees_them(tmp_path: Path) -> None:
    """A check that finds nothing anywhere proves nothing."""
    bad = "try:\n    f()\nexcept Exception:\n    pass\ntry:\n    f()\nexcept:\n    ...\n"
    good = "try:\n    f()\nexcept ValueError:\n    pass\n"
    (tmp_path / "bad.py").write_text(bad)
    (tmp_path / "good.py").write_text(good)
    assert list(swallowing(tmp_path / "bad.py")) == [3, 7]
    assert list(swallowing(tmp_path / "good.py")) == []


def test_modules_are_named_after_something() -> None:
    """A module called after nothing collects everything."""
    files = (*SOURCES, *TESTS)
    assert [name_of(path) for path in files if VAGUE_NAMES & {*path.relative_to(ROOT).parts, path.stem}] == []


def test_every_test_says_why() -> None:
    """A test without a reason is deleted by the next who finds it in the way."""
    tests = (
        (name_of(path), node)
        for path in TESTS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )
    assert [f"{file}: {node.name}" for file, node in tests if not ast.get_docstring(node)] == []


CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns", "process_time"}
# path: why a duration by the real clock is compared there after all.
TIMED: dict[str, str] = {}


def clocked(node: ast.AST, instants: set[str], durations: set[str]) -> bool:
    """Return whether an expression holds a duration: an instant that was subtracted, or a name of such a difference."""
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
def test_a_timed_assertion_is_told_from_a_wait(body: str, is_timed: bool) -> None:
    """A rule that is blind, or that forbids every deadline, would be switched off."""
    assert bool(list(timed_assertions(ast.parse(f"def test():\n  {body}")))) is is_timed
