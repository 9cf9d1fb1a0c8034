"""Which errors are worth another attempt, and what the client reads of them."""

from __future__ import annotations

import pytest

from api.generations.retries import describe, judge
from api.generations.throughput import Throughput
from api.storage.errors import StorageUnavailableError
from autoscaling.fairness import Slots
from models.errors import (
    EngineDeadError,
    EngineOverloadedError,
    GenerationFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    ReplicaLostError,
)

FAILED = {"code": "generation_failed", "message": "…"}


@pytest.mark.parametrize(
    "error", [ReplicaLostError("x"), EngineDeadError("x"), StorageUnavailableError("x"), KeyError("x"), MemoryError()]
)
def test_infrastructure_is_tried_three_more_times(error: Exception) -> None:
    verdicts = [judge(error, attempt, None) for attempt in range(1, 5)]
    assert [each.retry for each in verdicts] == [True, True, True, False]
    assert [each.wait_s for each in verdicts[:3]] == [0.5, 2.0, 8.0]
    assert all(each.counts for each in verdicts)


@pytest.mark.parametrize("error", [InvalidRequestError("no", "seed"), ModelNotFoundError("no")])
def test_a_wrong_request_never_is(error: Exception) -> None:
    assert not judge(error, 1, None).retry


def test_an_engines_failure_is_tried_once_more() -> None:
    error = GenerationFailedError("x")
    assert judge(error, 1, None).retry
    assert judge(error, 2, {"code": "replica_lost", "message": "…"}).retry
    assert not judge(error, 2, FAILED).retry


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.0, 0.5), (3.0, 3.0), (600.0, 5.0)])
def test_an_overloaded_engine_costs_no_attempt(asked_s: float, wait_s: float) -> None:
    verdict = judge(EngineOverloadedError("full", asked_s), 9, None)
    assert (verdict.retry, verdict.counts, verdict.wait_s) == (True, False, wait_s)


def test_a_bug_keeps_its_words_to_itself() -> None:
    seen = describe(KeyError("a secret"))
    assert seen["code"] == "internal_error"
    assert "secret" not in seen["message"]


def test_the_rate_is_that_of_all_slots_and_unknown_at_first() -> None:
    measured = Throughput({"tiny": 4, "small": 2})
    assert measured.as_capacity()["tiny"] == {"slots": 4, "steps_per_s": None}
    measured.finished("tiny", 500, 10.0)
    assert measured.as_capacity() == {
        "tiny": {"slots": 4, "steps_per_s": 200.0},
        "small": {"slots": 2, "steps_per_s": None},
    }


def test_the_slots_are_those_of_the_replicas_that_are_ready() -> None:
    measured = Throughput({"tiny": 40})
    measured.finished("tiny", 500, 10.0)
    measured.resize("tiny", Slots(10, 10, at_hand=2))
    assert measured.as_capacity() == {"tiny": {"slots": 10, "steps_per_s": 500.0, "at_hand": 2}}


def test_the_rate_follows_the_last_tracks() -> None:
    measured = Throughput({"tiny": 1})
    for _ in range(30):
        measured.finished("tiny", 500, 10.0)
    for _ in range(30):
        measured.finished("tiny", 500, 5.0)
    assert measured.as_capacity()["tiny"]["steps_per_s"] == pytest.approx(100.0, rel=0.1)


def test_a_track_that_took_no_time_does_no_harm() -> None:
    measured = Throughput({"tiny": 1})
    measured.finished("tiny", 500, 0.0)
    assert measured.as_capacity()["tiny"]["steps_per_s"] > 0
