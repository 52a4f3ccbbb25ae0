"""Runs every benchmark, prints each beside its limit, and writes bench/results.json."""

import json
import os
import platform
import sys
from pathlib import Path

from bench.settlement import results

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run them all; the exit code."""
    rows = []
    for result in results():
        sys.stdout.write(
            f"{result.name}: {result.per_s:,.0f} {result.unit}/s;"
            f" {result.limit}: {result.limit_per_s:,.0f}/s; ratio {result.ratio:.3f}\n"
        )
        sys.stdout.flush()
        rows.append(result.row())
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    kept = {"machine": {**machine, "cores": os.cpu_count()}, "results": rows}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"written to {RESULTS.parent.name}/{RESULTS.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
