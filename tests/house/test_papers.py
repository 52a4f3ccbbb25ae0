"""The papers say what is there: every link, test, setting, decision and meter profile."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("feature", "fix", "removal", "doc", "misc")
NO_ROOMS = {"migrations"}
HIDDEN = {".venv", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
HIDDEN |= {"mutants", "vendor"}


def papers() -> list[Path]:
    """Every Markdown file of the project."""
    found = ROOT.rglob("*.md")
    return sorted(path for path in found if not HIDDEN & set(path.relative_to(ROOT).parts))


def rooms() -> list[str]:
    """Every folder with code in it."""
    tops = ("server", "payments", "miniprogram_api")
    folders = chain.from_iterable((ROOT / top).rglob("__init__.py") for top in tops)
    named = {path.parent.relative_to(ROOT) for path in folders}
    return sorted(str(path) for path in named if path.name not in NO_ROOMS)


@pytest.mark.parametrize("room", [*rooms(), "bench", "deploy", "tests"])
def test_every_room_has_a_sign(room: str) -> None:
    sign = ROOT / room / "README.md"
    assert sign.exists(), f"{room}/README.md: what it owns, what it does not, its invariants"
    assert sign.read_text(encoding="utf-8").startswith("# ")


def _links(paper: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", paper.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            yield target.partition("#")[0]


@pytest.mark.parametrize("paper", papers(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(paper: Path) -> None:
    lost = [target for target in _links(paper) if not (paper.parent / target).exists()]
    assert lost == []


@pytest.mark.parametrize("paper", papers(), ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_papers_name_exist(paper: Path) -> None:
    text = paper.read_text(encoding="utf-8")
    missing = []
    for file, test in re.findall(r"(tests/[\w/]+\.py)(?:::([\w:]+))?", text):
        path = ROOT / file
        names = test.split("::") if test else []
        if not path.exists() or any(n not in path.read_text(encoding="utf-8") for n in names):
            missing.append(f"{file}::{test}" if test else file)
    assert missing == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name for name in records if f"({name})" not in index] == []
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")), ids=lambda path: path.stem
)
def test_a_decision_says_what_why_and_at_what_price(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.match(rf"# {int(record.name[:4])}\. \S", text)
    for heading in ("Decision", "Why", "Price"):
        assert f"\n**{heading}.** " in text, heading


def test_every_meter_profile_is_listed() -> None:
    index = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    profiles = (ROOT / "server" / "devices" / "profiles").rglob("*.yaml")
    names = sorted(str(path.relative_to(ROOT / "server/devices/profiles")) for path in profiles)
    assert names
    missing = [name for name in names if f"(../server/devices/profiles/{name})" not in index]
    assert missing == []


def test_every_setting_is_documented_and_nothing_else() -> None:
    used = set(
        re.findall(r'"(MALLWATT_[A-Z_]+)"', (ROOT / "server/settings.py").read_text("utf-8"))
    )
    table = re.findall(
        r"^\| `(MALLWATT_[A-Z_]+)`(?: ●)? \|",
        (ROOT / "docs/settings.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(table) == len(set(table))
    assert set(table) == used


def test_every_term_is_once_in_the_glossary_with_its_chinese() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)[2:]
    assert len(rows) > 40
    assert [row for row in rows if not re.search(r"[\u4e00-\u9fff]", row[1])] == []
    terms = [row[0] for row in rows]
    assert len(terms) == len(set(terms))


def test_the_architecture_is_drawn() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawings = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert len(drawings) == 1
    opened, closed = len(re.findall(r"\bsubgraph\b", drawings[0])), drawings[0].count("\n  end")
    assert opened == closed


def test_news_fragments_have_a_kind() -> None:
    wrong = [
        path.name
        for path in (ROOT / "newsfragments").iterdir()
        if path.name not in {"README.md", ".gitkeep", "template.md.jinja"}
        and not re.fullmatch(rf"(?:\d+|\+[\w-]+)\.(?:{'|'.join(KINDS)})(?:\.\d+)?\.md", path.name)
    ]
    assert wrong == []
