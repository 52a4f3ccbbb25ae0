"""The house rules that a linter cannot say; each failure names the place and the remedy."""

import ast
import gc
import re
import statistics
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("server", "payments", "miniprogram_api", "web", "bench")
WRITTEN_BY_TOOLS = "server/models/migrations/"
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
FUNCTION_LINES_MAX = 70
LINE_CHARS_MAX = 100
LATE_IMPORTS = ("server/cli.py", "server/channels/weixin/client.py", "payments/alipay/")
CORE_IMPORTS = {  # of the standard library; nothing here reads a clock, the disk or the network
    *("__future__", "abc", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "functools", "hashlib", "heapq", "itertools", "json", "operator", "re"),
    *("reprlib", "types", "typing", "zoneinfo"),
}
CORE_CALLS = {"open", "print", "input", "float", "eval", "exec", "__import__"}
CORE_CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic", "sleep"}


@dataclass(frozen=True)
class Rule:
    """A pattern that may not be written under some paths, and what to write instead."""

    pattern: str
    instead: str
    paths: tuple[str, ...] = PRODUCT
    but: tuple[str, ...] = ()


RULES = [
    Rule(r"\b(TODO|FIXME|XXX|HACK)\b", "do it now, or file an issue", (*PRODUCT, "tests")),
    Rule(
        r"datetime\.now\(|\.utcnow\(|date\.today\(|\btime\.time\(",
        "take `now: datetime` as an argument",
        ("server/core", "server/services", "server/models", "payments/wechat", "payments/alipay"),
    ),
    Rule(
        r"os\.environ|os\.getenv",
        "take Settings as an argument",
        but=("server/local/", "server/cli", "server/app.py", "payments/sandbox/app.py", "bench/"),
    ),
    Rule(
        r"(?<![\w.])print\(",
        "log, or write to the stream that you were handed",
        but=(
            "server/cli.py",
            "server/local/run.py",
            "server/devices/simulator/__main__.py",
            "payments/sandbox/__main__.py",
        ),
    ),
    Rule(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|skipif|xfail)", "fail", ("tests",)),
    Rule(
        r"unittest\.mock|MagicMock|mocker\.", "a fake that passes the real one's test", ("tests",)
    ),
    Rule(r"(?i)\b(placeholder for|for simplicity|simplified version)\b", "the real thing"),
    Rule(
        r"pg_(try_)?advisory_lock\(|\"(LISTEN|PREPARE|DECLARE|SET (?!LOCAL |TRANSACTION ))",
        "what a connection carries back to the pool stays: set, lock and listen per transaction",
        but=("server/models/database.py", "bench/mall.py", "server/local/"),
    ),
    Rule(r"from \S+ import \*", "name what you import", (*PRODUCT, "tests")),
    Rule(r"get_event_loop\(", "get_running_loop"),
    Rule(r"verify=False|CERT_NONE", "verify the certificate"),
    Rule(r"(?i)py" + r"pi\.org|pythonhosted", "no address of a package index", ("",)),
]


@cache
def sources(folder: str) -> tuple[Path, ...]:
    """The Python files of a folder."""
    found = (ROOT / folder).rglob("*.py")
    return tuple(sorted(p for p in found if not {".venv", "mutants"} & set(p.parts)))


@cache
def text_of(path: Path) -> str:
    """A file's text, read once."""
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree, parsed once."""
    return ast.parse(text_of(path))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Everything in a file's syntax tree, walked once."""
    return list(ast.walk(tree_of(path)))


def place(path: Path, line: int) -> str:
    """Where something is, as an editor wants it."""
    return f"{path.relative_to(ROOT)}:{line}"


def code(*folders: str) -> Iterator[Path]:
    """The files that people wrote."""
    for folder in folders:
        for path in sources(folder):
            if WRITTEN_BY_TOOLS not in str(path):
                yield path


@cache
def functions(path: Path) -> list[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """Every function of a file with its lines."""
    return [
        (node, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.fixture(scope="module", autouse=True)
def trees_of_this_module() -> Iterator[None]:
    """Millions of nodes: no search for garbage looks at them, neither here nor in later tests."""
    gc.disable()
    yield
    for kept in (tree_of, nodes_of, functions):
        kept.cache_clear()
    gc.enable()


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{place(path, node.lineno)} {node.name} has {lines} lines"
        for path in code(*PRODUCT, "tests")
        for node, lines in functions(path)
        if lines > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_functions_and_files_stay_small() -> None:
    lengths = [lines for path in code(*PRODUCT) for _, lines in functions(path)]
    files = [text_of(path).count("\n") for path in code(*PRODUCT)]
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=10)[-1] <= 35
    assert statistics.quantiles(files, n=10)[-1] <= 400


def test_no_file_has_a_name_that_says_nothing() -> None:
    named = [place(path, 1) for path in code(*PRODUCT, "tests") if path.stem in BANNED_NAMES]
    assert named == []


@pytest.mark.parametrize("suffix", ["*.yaml", "*.yml", "*.sh", "Dockerfile"])
def test_lines_fit_beside_each_other(suffix: str) -> None:
    """Ruff does the same for Python."""
    folders = (*PRODUCT, "tests", "deploy")
    candidates = [path for folder in folders for path in (ROOT / folder).rglob(suffix)]
    long = [
        place(path, number)
        for path in candidates
        if WRITTEN_BY_TOOLS not in str(path) and "vendor" not in path.parts
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if len(line) > LINE_CHARS_MAX
    ]
    assert long == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.instead)
def test_banned_words(rule: Rule) -> None:
    found = [
        f"{place(path, number)} {match.group()!r}: {rule.instead}"
        for path in code(*rule.paths)
        if path != Path(__file__)
        and not str(path.relative_to(ROOT)).startswith(rule.but or ("//",))
        and re.search(rule.pattern, text_of(path), re.MULTILINE)  # only then line by line
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (match := re.search(rule.pattern, line))
    ]
    assert found == []


def test_a_claim_takes_no_more_than_its_limit() -> None:
    """A plan may look into `IN (SELECT … LIMIT … FOR UPDATE SKIP LOCKED)` again for each row.

    Then it finds others each time, and claims them all. An array is made once.
    """
    looks_again = re.compile(r"\bIN \(\s*SELECT\b[^)]*\bLIMIT\b[^)]*\bFOR [A-Z ]*UPDATE\b")
    assert looks_again.search("WHERE id IN (\n SELECT id FROM due LIMIT 8 FOR UPDATE SKIP LOCKED)")
    found = [str(path) for path in code("server") if looks_again.search(text_of(path))]
    assert found == [], "write = ANY(ARRAY(SELECT … LIMIT … FOR UPDATE SKIP LOCKED))"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = ast.unparse(handler.type) if handler.type else "Exception"
    return re.search(r"\b(Base)?Exception\b", caught) is not None


def test_nothing_is_swallowed() -> None:
    """Who catches everything raises it again; only a worker's outermost loop goes on."""
    swallowed = [
        place(path, node.lineno)
        for path in code(*PRODUCT)
        if not str(path.relative_to(ROOT)).startswith("server/workers/")
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node)
        if not isinstance(node.body[-1], ast.Raise)
    ]
    assert swallowed == []


def test_who_silences_a_tool_says_why() -> None:
    silence = re.compile(
        r"#\s*(?:noqa|type:\s*ignore)(?P<codes>[:\[][\w\s,\-:\]]*?\]?)?(?P<why>.*)$"
    )
    unexplained = []
    for path in code(*PRODUCT, "tests"):
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if path == Path(__file__) or "#" not in line or not (match := silence.search(line)):
                continue
            explained = re.search(r"(?:\s-\s|\s#\s|\s\s|\s—\s)\S.{3,}", line[match.start() + 6 :])
            if not match.group("codes") or not explained:
                unexplained.append(place(path, number))
    assert unexplained == []


# --- the core: pure ---


def _is_float(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float)


def _divides(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)


def _waits(node: ast.AST) -> bool:
    return isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)


def _calls_the_world(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in CORE_CALLS


def _reads_a_clock(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in CORE_CLOCKS


def _names_float(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "float"


@pytest.mark.parametrize(
    ("breaks", "instead"),
    [
        (_is_float, "an integer in the smallest unit"),
        (_names_float, "an integer in the smallest unit"),
        (_divides, "// and a decided rounding"),
        (_waits, "gather before, apply after"),
        (_calls_the_world, "hand the value in"),
        (_reads_a_clock, "take `now: datetime` as an argument"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_the_core_is_pure(breaks: Callable[[ast.AST], bool], instead: str) -> None:
    found = [
        f"{place(path, getattr(node, 'lineno', 1))}: {instead}"
        for path in code("server/core")
        for node in nodes_of(path)
        if breaks(node)
    ]
    assert found == []


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def test_the_core_imports_the_standard_library_and_itself() -> None:
    foreign = [
        f"{place(path, line)} {name}"
        for path in code("server/core")
        for line, name in _imports(path)
        if not name.startswith("server.core") and name.partition(".")[0] not in CORE_IMPORTS
    ]
    assert foreign == []


def test_protocols_and_profiles_do_no_input_or_output() -> None:
    foreign = [
        f"{place(path, line)} {name}"
        for path in code("server/devices/protocols")
        for line, name in _imports(path)
        if name.partition(".")[0] in {"asyncio", "socket", "time", "logging", "structlog", "serial"}
    ]
    assert foreign == []


# --- the floors ---


def test_every_room_has_a_floor() -> None:
    settings = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    floors = next(contract for contract in contracts if contract["id"] == "floors")
    placed = set(re.findall(r"[\w.]+", " ".join(floors["layers"])))
    rooms = {
        f"server.{path.stem}"
        for path in (ROOT / "server").iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert rooms - placed == set()


def test_only_slow_libraries_are_imported_late() -> None:
    hidden = [
        place(path, inner.lineno)
        for path in code(*PRODUCT)
        if not str(path.relative_to(ROOT)).startswith(LATE_IMPORTS)
        for node, _ in functions(path)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []
