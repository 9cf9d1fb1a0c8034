"""When replicas that start are expected to serve."""

from __future__ import annotations

from autoscaling.starting import Expected, expected, once_awake


def test_whoever_is_due_first_is_expected_first() -> None:
    assert expected([(112.0, 2), (104.5, 1)], 100.0) == (Expected(4.5), Expected(12.0, 2))
    assert expected([], 100.0) == ()


def test_who_is_not_there_yet_takes_a_moment_and_who_is_late_as_long_again() -> None:
    """What waits for a machine that is not there is not counted on for ever."""
    assert expected([(100.2, 1)], 100.0) == (Expected(1.0),)
    assert expected([(99.5, 1)], 100.0) == (Expected(1.0),)
    assert expected([(40.0, 3), (110.0, 1)], 100.0) == (Expected(10.0), Expected(60.0, 3))


def test_of_a_model_that_sleeps_the_first_replica_is_there_when_it_is_awake() -> None:
    assert once_awake(()) == ()
    assert once_awake([Expected(8.0)]) == ()
    assert once_awake([Expected(8.0, 3), Expected(10.0)]) == (Expected(0.0, 2), Expected(2.0))
