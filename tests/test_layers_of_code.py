"""Includes and imports point down the levels of the code (CONTRIBUTING.md), never up, and stay where they belong."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CPP, PYTHON = ROOT / "cpp", ROOT / "python" / "gemmule"

if not CPP.is_dir():
    pytest.skip("the sources are not beside the tests", allow_module_level=True)

# Folder of cpp/ -> folders it may include, itself always among them.
BELOW = {
    "base": set(),
    "quant": {"base"},
    "kernels": {"quant", "base"},
    "formats": {"quant", "base"},
    "text": {"formats", "base"},
    "model": {"kernels", "quant", "base"},
    "engine": {"model", "kernels", "formats", "text", "quant", "base"},
    "bindings": {"engine", "model", "kernels", "formats", "text", "quant", "base"},
}

# The same for python/gemmule, lowest level first: packages, and modules that stand by themselves.
LEVELS = [
    {"printable"},
    {"errors", "forks", "subinterpreters"},
    {"arguments", "json_line", "paths", "plotting", "table"},
    {"progress"},
    {"checkpoints"},
    {"outputs", "text"},
    {"generation"},
    {"chats"},
    {"model"},
    {"loading"},
    {"quality"},
    {"benchmark", "conversion", "harness"},
    {"command_line"},
]

SOURCES = sorted(path for path in CPP.rglob("*") if path.suffix in (".h", ".cc"))
MODULES = sorted(PYTHON.rglob("*.py"))


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), flags=re.MULTILINE)


def test_there_is_something_to_check():
    assert {path.relative_to(CPP).parts[0] for path in SOURCES} <= set(BELOW)
    assert sum(len(includes(path)) for path in SOURCES) > 20
    assert len(MODULES) > 5


def test_includes_point_down():
    for path in SOURCES:
        folder = path.relative_to(CPP).parts[0]
        for name in includes(path):
            target = name.split("/")[0]
            if target in BELOW and (CPP / name).exists():
                assert target in BELOW[folder] | {folder}, f"{path.relative_to(ROOT)} includes {name}"


def test_own_headers_are_named_from_the_root_of_cpp():
    for path in SOURCES:
        for name in includes(path):
            beside = path.parent / name
            assert not beside.exists() or (CPP / name).exists(), f"{path.relative_to(ROOT)} includes {name}"


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"^\s*#\s*pragma\s+omp|#\s*include\s*<omp\.h>", {"base/parallel.cc", "base/parallel.h"}),
        (r"#\s*include\s*[<\"]pybind11/", {"bindings"}),
        (r"#\s*include\s*[<\"]hwy/", {"kernels", "base"}),
        (r"\bstd::(cout|cerr|abort|exit|terminate)\b|\bprintf\s*\(", set()),
        (r"\bassert\s*\(|<cassert>|\bHWY_(ASSERT|ABORT)\b", set()),
        (r"\bHWY_DASSERT\b", {"kernels"}),
    ],
    ids=[
        "threads live in one file",
        "Python is known to the bindings",
        "SIMD to the kernels",
        "nothing prints or aborts",
        "no input meets an assertion",
        "debug builds refuse what release builds do",
    ],
)
def test_has_its_place(pattern, allowed):
    for path in SOURCES:
        name = path.relative_to(CPP)
        if str(name) not in allowed and name.parts[0] not in allowed:
            assert not re.search(pattern, path.read_text(), flags=re.MULTILINE), name


def imports(path: Path) -> set[str]:
    """Full names of gemmule's modules that a file imports, inside functions too, but not those for types alone."""
    package = ["gemmule", *path.relative_to(PYTHON).parent.parts]
    names = set()
    tree = ast.parse(path.read_text())
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {inner for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(parts + ([node.module] if node.module else []))
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    known = {module_name(module) for module in MODULES} | {"gemmule._core"}
    return names & known - {module_name(path)}


def module_name(path: Path) -> str:
    parts = ["gemmule", *path.relative_to(PYTHON).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_point_down():
    level = {name: place for place, names in enumerate(LEVELS) for name in names}
    outside = {"__init__", "__main__", "reference"}
    assert {path.relative_to(PYTHON).with_suffix("").parts[0] for path in MODULES} == level.keys() | outside
    for path in MODULES:
        own = path.relative_to(PYTHON).with_suffix("").parts[0]
        for name in imports(path) if own in level else ():
            other = name.split(".")[1] if "." in name else own
            assert other in ("_core", own) or level[other] < level[own], f"{path.relative_to(ROOT)} imports {name}"


def test_imports_have_no_cycle():
    graph = {module_name(path): imports(path) - {"gemmule"} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for below in graph.get(name, ()):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_reference_stands_alone():
    """Only tests import it, and it imports nothing of the package but itself."""
    for path in MODULES:
        inside = path.is_relative_to(PYTHON / "reference")
        for name in imports(path):
            within = name.startswith("gemmule.reference")
            assert within == inside, f"{path.relative_to(ROOT)} imports {name}" if within or inside else name


def test_ends_of_the_package():
    for path in MODULES:
        name = module_name(path)
        if name == "gemmule.errors":
            assert imports(path) == {"gemmule.printable"}
        if name not in ("gemmule.__main__", "gemmule.command_line.cli"):
            assert "gemmule.command_line.cli" not in imports(path), name
