"""Runs the benchmarks (all, or those named), prints each beside its limit, writes results.json."""

import argparse
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import uvloop

import bench
from bench.measure import Measured

RESULTS = Path(__file__).with_name("results.json")
Results = Callable[[], Iterable[Measured] | AsyncIterator[Measured]]


def benches() -> Iterator[ModuleType]:
    """Every module of this folder that has `results`."""
    for found in iter_modules(bench.__path__, "bench."):
        if found.name not in {__name__, "bench.__main__"}:
            module = import_module(found.name)
            if hasattr(module, "results"):
                yield module


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; a missed target is said, and 0 all the same."""
    known = {module.__name__.removeprefix("bench."): module for module in benches()}
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"some of: {', '.join(known)}")
    names = parser.parse_args(arguments).name
    if unknown := set(names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    rows: list[dict[str, str | float | None]] = []
    for name in names or known:
        uvloop.run(_run(known[name].results, rows))  # as every role runs
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    kept = {"machine": {**machine, "cores": os.cpu_count()}, "results": rows}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"written to {RESULTS.parent.name}/{RESULTS.name}\n")
    return 0


async def _run(results: Results, rows: list[dict[str, str | float | None]]) -> None:
    found = results()
    if isinstance(found, AsyncIterator):
        async for one in found:
            _tell(one, rows)
    else:
        for one in found:
            _tell(one, rows)


def _tell(one: Measured, rows: list[dict[str, str | float | None]]) -> None:
    missed = "MISSED: " if one.missed else ""
    sys.stdout.write(f"{missed}{one.line()}\n")
    sys.stdout.flush()
    rows.append(one.row())


if __name__ == "__main__":
    sys.exit(main())
