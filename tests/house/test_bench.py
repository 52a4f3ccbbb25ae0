"""The benchmarks measure the same work on both sides."""

import json
from itertools import count
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import measure
from bench.measure import Result
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


def test_results_are_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Result("work", "things", 5.0, "limit", 20.0)
    monkeypatch.setattr(bench, "results", lambda: [one])
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    assert bench.main() == 0
    assert "work: 5 things/s; limit: 20/s; ratio 0.250" in capsys.readouterr().out
    kept = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert kept["results"] == [
        {
            "name": "work",
            "unit": "things",
            "per_s": 5.0,
            "limit": "limit",
            "limit_per_s": 20.0,
            "ratio": 0.25,
        }
    ]


def test_every_pace_is_measured_with_every_tariff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_S", 0.001)
    assert len({result.name for result in results()}) == 4
