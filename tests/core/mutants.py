"""What `make mutate` found: figures by file, and the mutants that no test sees.

Fails where fewer than nine in ten of a room died, or where one lives of which docs/mutation.md
does not say why.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "docs" / "mutation.md"
DIED_SHARE_MIN = 0.9
KILLED, NO_VERDICT = {1, 3}, {None}
OUT_OF_TIME = {-24, 24, 36, 152, 255}  # it went on for ever: a test saw that, too


def main() -> int:
    """Print all there is; 1 if it is not enough."""
    rooms: dict[str, Counter[str]] = {}
    living: list[str] = []
    for path in sorted((ROOT / "mutants" / "server" / "core").rglob("*.meta")):
        codes: dict[str, int | None] = json.loads(path.read_bytes())["exit_code_by_key"]
        if not codes:
            continue
        verdicts = Counter(_verdict(code) for code in codes.values())
        room, file = path.parent.name, path.name.removesuffix(".meta")
        rooms[room] = rooms.get(room, Counter()) + verdicts
        living += [name for name, code in codes.items() if _verdict(code) == "survived"]
        _tell(_figures(f"{room}/{file}", verdicts))
    for room, verdicts in rooms.items():
        _tell(_figures(room, verdicts))
    unlisted = [text for text in map(_change, sorted(living)) if not _is_listed(text)]
    for text in unlisted:
        _tell(f"\nlives, and {PAPER.name} does not say why:\n{text}")
    return 1 if unlisted or not all(map(_is_enough, rooms.values())) else 0


def _verdict(code: int | None) -> str:
    if code in NO_VERDICT:
        return "not run"
    if code in KILLED:
        return "killed"
    return "timeout" if code in OUT_OF_TIME else "survived"


def _figures(name: str, verdicts: Counter[str]) -> str:
    counts = (f"{verdicts[word]:5} {word}" for word in ("killed", "timeout", "survived", "not run"))
    return f"{name:28}{verdicts.total():5} mutants{', '.join(counts)}"


def _is_enough(verdicts: Counter[str]) -> bool:
    died = verdicts["killed"] + verdicts["timeout"]
    return died >= DIED_SHARE_MIN * (died + verdicts["survived"])


def _change(name: str) -> str:
    """The mutant's name and the lines that it takes away and puts in."""
    command = [str(Path(sys.executable).with_name("mutmut")), "show", name]
    shown = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    lines = [line for line in shown.splitlines() if line.startswith(("+", "-"))]
    return "\n".join([name, *(line for line in lines if not line.startswith(("+++", "---")))])


def _is_listed(change: str) -> bool:
    written = PAPER.read_text(encoding="utf-8").replace("\\|", "|")
    return all(f"`{line[1:].strip()}`" in written for line in change.splitlines()[1:])


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
