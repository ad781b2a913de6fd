"""The poll-interval policy against its peers and the optimum, on some workloads of `make bench`."""

import pytest

from arcanna_metrics.runs.polling import PRICE
from tests.tools.benchmarks import polling as benchmark


def test_no_peer_has_less_lag_at_the_same_number_of_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "PRICES", (PRICE,))
    short = benchmark.workload("short")
    _, (ratio, _, _) = benchmark.best_peer({"by_peer": benchmark.by_peer([benchmark.replicate(short, "1")])})
    assert ratio < 1.0
    assert benchmark.by_optimum(short, benchmark.informed, "1") < 1.2
    assert benchmark.unknown()["by_optimum"] < 1.5


def test_durations_that_survive_retraining_reduce_checks_and_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "PRICES", (PRICE,))
    monkeypatch.setattr(benchmark, "PEERS", {})
    defaults = benchmark.replicate(benchmark.workload(benchmark.RETRAINED), "1")["defaults"]
    (checks, lag), (more_checks, more_lag) = defaults[benchmark.OURS], defaults[benchmark.FORGETFUL]
    assert checks < more_checks
    assert lag < more_lag
