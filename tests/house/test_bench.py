"""The benchmarks measure the same work on both sides."""

import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from bench import __main__ as bench
from bench import measure
from bench.measure import Figure, Measured, Result
from bench.settlement import meter_path, multiplier, results, settler


@pytest.mark.parametrize("readings", [25, 97, 1_441])
def test_the_limit_and_the_settlement_agree(readings: int) -> None:
    path = meter_path(readings)
    settled = settler(path, "flat")()
    assert (settled.energy_wh, settled.complete) == (24_000, True)
    assert settled.amount_fen == multiplier(path)() == 1_481  # 24 kWh x 0.6172 yuan, half up


def test_the_best_round_of_each_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([3.0, 10.0, 4.0, 40.0, 2.0, 20.0])
    monkeypatch.setattr(measure, "ROUNDS", 3)
    monkeypatch.setattr(measure, "_rate", lambda _work: next(rates))
    result = measure.measure("name", "things", int, "limit", int)
    assert (result.per_s, result.limit_per_s, result.ratio) == (4.0, 40.0, 0.1)


def test_a_rate_is_calls_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(measure, "ROUND_S", 4)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    assert measure._rate(int) == 3 / 4


WORK = Result("work", "things", 5.0, "limit", 20.0)
SLOW = Result("slow work", "things", 5.0, "limit", 20.0, target=0.5)
LARGE = Figure("memory", 301.0, "MB", at_most=300)


async def _later() -> AsyncIterator[Measured]:
    yield LARGE


def test_results_are_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missed target is said plainly, and breaks nothing."""
    found = [ModuleType("bench.now"), ModuleType("bench.later"), ModuleType("bench.unwanted")]
    vars(found[0])["results"] = lambda: [WORK, SLOW]
    vars(found[1])["results"] = _later
    monkeypatch.setattr(bench, "benches", lambda: iter(found))
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    assert bench.main(["now", "later"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "work: 5 things/s; limit: 20/s; ratio 0.250",
        "MISSED: slow work: 5 things/s; limit: 20/s; ratio 0.250 (at least 0.5)",
        "MISSED: memory: 301 MB (at most 300)",
    ]
    kept = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert kept["results"] == [WORK.row(), SLOW.row(), LARGE.row()]
    assert kept["results"][0]["ratio"] == 0.25


def test_a_name_that_no_benchmark_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["speed"])
    assert "no such benchmark: speed" in capsys.readouterr().err


def test_every_pace_is_measured_with_every_tariff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_S", 0.001)
    assert len({result.name for result in results()}) == 4
