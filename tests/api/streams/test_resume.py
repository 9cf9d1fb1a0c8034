"""Coming back to a stream of events: what follows is told, nothing twice and nothing less."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.streams.events import ResumePoint
from tests.api.fakes import FakeGenerator
from tests.api.streams.listening import check_ids, listen, numbers, told
from tests.api.streams.stage import Stage, Told, audio_of, parse_sse, track


@pytest.mark.parametrize("flushed", [False, True])
async def test_one_comes_back_after_any_event(stage: Stage, flushed: bool) -> None:
    view = await stage.create(num_tracks=2)
    exchange = listen(stage.app, view, "?audio=true")
    async with stage.working():
        await exchange.finish()
    events = parse_sse(exchange.body)
    other = await stage.gateway()
    if flushed:
        await stage.flush()
    for number, event in enumerate(events[1:-1], 2):
        again = await told(other, view, "?audio=true", event.id)
        check_ids(again)
        assert numbers(event) < numbers(again[1])
        assert sound(again) == sound(events[number:])
        assert again[-1] == events[-1]


def sound(events: list[Told]) -> list[dict[str, Any]]:
    """The audio of all tracks. How they take turns is not the same every time."""
    return sorted((e.data for e in events if e.name == "audio"), key=lambda data: (data["track"], data["index"]))


async def test_one_comes_back_in_the_middle_to_another_gateway_after_a_flush(
    stage: Stage, generator: FakeGenerator
) -> None:
    gate = generator.hold(4)
    other = await stage.gateway()
    view = await stage.create()
    async with stage.working():
        first = listen(stage.app, view, "?audio=true")
        await first.until(lambda: len(parse_sse(first.body)) >= 6)
        first.disconnect()
        await first.finish()
        await stage.flush()
        heard = parse_sse(first.body)
        second = listen(other, view, "?audio=true", heard[-1].id)
        gate.set()
        await second.finish()
    resumed = parse_sse(second.body)
    check_ids(resumed)
    assert numbers(heard[-1]) < numbers(resumed[1])
    assert audio_of(heard) + audio_of(resumed) == track(1, 2.0)


async def test_what_was_heard_without_audio_does_not_count_as_heard(stage: Stage) -> None:
    view = await stage.create()
    async with stage.working():
        await stage.ended(view.id)
    events = await told(stage.app, view)
    assert [event.id for event in events] == [None, "3.0"]
    assert audio_of(await told(stage.app, view, "?audio=true", events[-1].id)) == track(1, 2.0)


@pytest.mark.parametrize(("query", "last"), [("", "3.0"), ("?audio=true", "3.10"), ("?last_event_id=3.0", None)])
async def test_who_was_told_the_end_need_not_come_back(stage: Stage, query: str, last: str | None) -> None:
    view = await stage.create()
    async with stage.working():
        await stage.ended(view.id)
    exchange = listen(stage.app, view, query, last)
    await exchange.finish()
    assert (exchange.status, exchange.body) == (204, b"")


async def test_the_header_wins_over_the_query(stage: Stage) -> None:
    view = await stage.create()
    async with stage.working():
        await stage.ended(view.id)
    events = await told(stage.app, view, "?audio=true&last_event_id=2.3", "2.8")
    assert [event.data["index"] for event in events if event.name == "audio"] == [8, 9]


@pytest.mark.parametrize("last", ["x", "1", "1.2.3", "-1.0", "1.0 ", "1.٣", "9" * 10 + ".0", "1..0"])
async def test_what_is_no_id_is_refused(stage: Stage, last: str) -> None:
    view = await stage.create()
    async with stage.client() as client:
        answer = await client.get(f"/api/v1/generate/{view.id}/events", params={"last_event_id": last})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "last_event_id")


async def test_an_id_from_nowhere_tells_no_less(stage: Stage) -> None:
    view = await stage.create()
    async with stage.working():
        await stage.ended(view.id)
    events = await told(stage.app, view, "?audio=true", "999.4")
    assert audio_of(events) == track(1, 2.0)[4 * 12_800 :]
    assert (events[-1].name, events[-1].id) == ("done", "3.10")


@given(st.integers(0, 10**9 - 1), st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=8))
def test_resume_points_are_what_ids_say(version: int, pieces: list[int]) -> None:
    text = ".".join(map(str, [version, *pieces]))
    assert ResumePoint.parse(text, len(pieces)) == ResumePoint(version, tuple(pieces))
    with pytest.raises(ApiError):
        ResumePoint.parse(text, len(pieces) + 1)


def test_the_beginning_is_no_id() -> None:
    assert ResumePoint.parse(None, 2) == ResumePoint.parse("", 2) == ResumePoint(0, (0, 0))
