"""What the meter says of arrivals it was shown."""

from __future__ import annotations

import random

import pytest

from autoscaling.arrivals import ArrivalMeter, Arrivals


def shown(times: list[float], audio_s: float = 10.0, now: float | None = None) -> Arrivals:
    meter = ArrivalMeter()
    for at in times:
        meter.add(at, audio_s)
    return meter.read(times[-1] if now is None else now)


def test_before_the_first_there_is_nothing() -> None:
    assert ArrivalMeter().read(100.0) == Arrivals()


def test_a_steady_stream_reads_the_same_in_all_windows() -> None:
    seen = shown([0.5 * index for index in range(1400)], 4.0)
    assert (seen.short_s, seen.medium_s, seen.long_s) == pytest.approx((8, 8, 8), rel=0.1)
    assert seen.dispersion == 1.0
    assert seen.mean_audio_s == pytest.approx(4)


def test_what_has_just_begun_is_not_diluted_by_what_nobody_saw() -> None:
    assert shown([0.0, 1.0, 2.0, 3.0], 5.0).long_s == pytest.approx(20 / 3)


def test_a_burst_shows_in_the_short_window_first_and_is_forgotten_last_by_the_long_one() -> None:
    burst = [float(second) for second in range(600)] + [600 + index / 10 for index in range(100)]
    now, later = shown(burst), shown(burst, now=690.0)
    assert now.short_s > 2 * now.medium_s > 2 * now.long_s
    assert later.short_s == later.medium_s == 0 < later.long_s
    assert shown(burst, now=1300.0).long_s == 0


def test_chance_has_a_dispersion_of_about_one_and_bursts_have_more() -> None:
    rng = random.Random(1)
    chance = sorted(rng.uniform(0, 600) for _ in range(1200))
    assert shown(chance, now=600.0).dispersion < 1.6
    bursts = sorted(rng.choice(range(0, 600, 100)) + rng.random() for _ in range(1200))
    assert shown(bursts, now=600.0).dispersion > 20


def test_a_rate_that_rises_is_not_taken_for_bursts() -> None:
    rising = sorted(600 * (index / 3000) ** 0.5 for index in range(3000))
    assert shown(rising, now=600.0).dispersion < 1.2
