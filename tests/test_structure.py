"""What keeps the code readable and its parts apart, checked instead of promised."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from statistics import median
from textwrap import dedent
from typing import TYPE_CHECKING

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
    *("workload/promql", "workload/services", "workload/engine", "workload/fleet", "workload/settings"),
    *(
        "workload/corpus",
        "workload/record",
        "workload/agent",
        "workload/tap",
        "workload/app",
        "workload/examples",
        "workload/analysis",
        "workload/panels",
        "workload/charts",
    ),
    *(
        "workload/experiment",
        "workload/dashboards",
        "workload/export",
        "workload/report",
        "workload/compose",
        "workload/watch",
    ),
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
    """A sixth flat file belongs in a folder: a heap of flat files shows no structure."""
    assert {path.stem for path in (ROOT / "workload").glob("*.py")} - {"__init__"} == FLAT


def test_the_exporter_stands_alone() -> None:
    """It is installed next to any vLLM; the agent, Chroma and torch must not come with it, not even for types."""
    assert importers_of("workload", [path for path in SOURCES if name_of(path).startswith("exporter/")]) == []
    assert importers_of("exporter", SOURCES)


def test_nvml_has_one_door() -> None:
    """A machine without a driver is served only if no other module imports the library."""
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


# A query that is put together around its caller's selector is the client's own protocol.
PROMQL = ("workload/promql/", "workload/services/prometheus.py")


def queries_written(tree: ast.AST) -> Iterator[str]:
    """Yield each argument of a query that is text instead of a name or a call."""
    for node in ast.walk(tree):
        is_query = isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".query", ".query_range", ".raw"))
        if is_query and any(isinstance(one, ast.Constant | ast.JoinedStr | ast.BinOp) for one in node.args[:1]):
            yield ast.unparse(node)


def test_promql_has_one_door() -> None:
    """A query that is written where it is asked is on no golden list, and no test asks whether its metrics exist."""
    elsewhere = [path for path in SOURCES if not name_of(path).startswith(PROMQL)]
    assert [f"{name_of(path)}: {text}" for path in elsewhere for text in queries_written(tree_of(path))] == []
    assert list(queries_written(ast.parse("client.query(f'up{x}')"))) == ["client.query(f'up{x}')"]


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


MAX_BY_PLACE = 5
# name: why its arguments go by place after all.
BY_PLACE = {"Score": "its ten values come as one row, from the two scores that they join"}


def by_place(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each function and dataclass with the number of arguments that a caller may give by place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            yield node.name, len(arguments) - (arguments[:1] in (["self"], ["cls"]))
        elif isinstance(node, ast.ClassDef):
            kinds = [ast.unparse(one) for one in node.decorator_list]
            if any(kind.startswith("dataclass") and "kw_only=True" not in kind for kind in kinds):
                fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and is_by_place(one)]
                marks = [place for place, one in enumerate(fields) if ast.unparse(one.annotation) == "KW_ONLY"]
                yield node.name, min([*marks, len(fields)])


def is_by_place(field: ast.AnnAssign) -> bool:
    """Return whether a field of a dataclass is an argument that may go by place."""
    default = ast.unparse(field.value) if field.value else ""
    return "kw_only=True" not in default and "init=False" not in default and "ClassVar" not in ast.unparse(field)


def test_no_more_than_five_arguments_go_by_place() -> None:
    """Two swapped arguments of one type pass every check; a name at the call says which is which."""
    found = ((path, *one) for path in SOURCES for one in by_place(tree_of(path)))
    many = {name: f"{name_of(path)}: {number}" for path, name, number in found if number > MAX_BY_PLACE}
    assert {name: place for name, place in many.items() if name not in BY_PLACE} == {}
    assert many.keys() == BY_PLACE.keys()


def test_arguments_by_place_are_counted() -> None:
    """A check that finds nothing anywhere proves nothing."""
    code = """
    def f(a, b, *, c): ...
    class A:
        def g(self, a, b, c, d, e, f): ...
    @dataclass(frozen=True)
    class B:
        a: int
        b: int
        c: int = field(default=0, kw_only=True)
        _: KW_ONLY
        d: int
    @dataclass(kw_only=True)
    class C:
        a: int
    """
    assert sorted(by_place(ast.parse(dedent(code)))) == [("B", 2), ("f", 2), ("g", 6)]
