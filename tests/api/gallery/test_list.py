"""Listing: filters, pages that stay put, and nothing of anybody else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from api import cursor
from api.gallery import tracks
from api.ids import new_id
from tests.api.gallery.conftest import Gallery
from tests.api.storage.rows import add_track

NOON = datetime(2029, 6, 1, 12, tzinfo=UTC)


async def ids(shown: Gallery, **query: Any) -> list[str]:
    response = await shown.mine.get("/api/v1/audio", params=query)
    assert response.status_code == 200, response.text
    return [track["id"] for track in response.json()["data"]]


async def test_the_newest_come_first_and_only_ones_own(shown: Gallery) -> None:
    mine = [await add_track(shown.db, shown.owner, created_at=NOON + timedelta(seconds=i)) for i in range(3)]
    await add_track(shown.db, shown.stranger)
    assert await ids(shown) == mine[::-1]


async def test_filters_narrow_alone_and_together(shown: Gallery) -> None:
    one = await add_track(shown.db, shown.owner, campaign_id="c1", client_id="k", brief_id="b", collection="x")
    two = await add_track(shown.db, shown.owner, campaign_id="c1", model_id="small", state="running")
    three = await add_track(shown.db, shown.owner, campaign_id="c2", state="failed")
    assert set(await ids(shown, campaign_id="c1")) == {one, two}
    assert await ids(shown, campaign_id="c1", model_id="tiny") == [one]
    for name, value in (("client_id", "k"), ("brief_id", "b"), ("collection", "x"), ("status", "succeeded")):
        assert await ids(shown, **{name: value}) == [one]
    assert await ids(shown, status="failed") == [three]
    assert await ids(shown, campaign_id="c1", status="failed") == []


async def test_times_are_exclusive_and_have_a_zone(shown: Gallery) -> None:
    early, middle, late = [
        await add_track(shown.db, shown.owner, created_at=NOON + timedelta(hours=i)) for i in range(3)
    ]
    assert await ids(shown, created_after="2029-06-01T12:00:00Z") == [late, middle]
    assert await ids(shown, created_before="2029-06-01T14:00:00Z") == [middle, early]
    assert await ids(shown, created_after="2029-06-01T14:00:00+02:00", created_before="2029-06-01T15:30:00+02:00") == [
        middle
    ]
    response = await shown.mine.get("/api/v1/audio", params={"created_after": "2029-06-01T12:00:00"})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "created_after"


async def test_text_of_the_prompt_is_found_as_it_is_written(shown: Gallery) -> None:
    percent = await add_track(shown.db, shown.owner, prompt="100% Techno_beat \\ /slash")
    await add_track(shown.db, shown.owner, prompt="1000 technoXbeat")
    for q in ("100%", "techno_beat", "TECHNO_", "\\", "/slash"):
        assert await ids(shown, q=q) == [percent]
    assert await ids(shown, q="%%") == []
    assert await ids(shown, q="'; DROP TABLE tracks; --") == []


async def walk(shown: Gallery, limit: int) -> list[list[str]]:
    pages = []
    address: str | None = f"/api/v1/audio?limit={limit}"
    while address is not None:
        response = await shown.mine.get(address)
        page = response.json()
        pages.append([track["id"] for track in page["data"]])
        address = page["next"]
        if address is not None:
            assert response.headers["link"] == f'<{address}>; rel="next"'
    return pages


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_hold_everything_once(shown: Gallery, limit: int) -> None:
    """Also where many tracks share one instant."""
    made = {await add_track(shown.db, shown.owner, created_at=NOON + timedelta(microseconds=i // 3)) for i in range(7)}
    pages = await walk(shown, limit)
    seen = [track for page in pages for track in page]
    assert len(seen) == 7
    assert set(seen) == made
    assert all(len(page) <= limit for page in pages)


async def test_pages_stay_put_when_tracks_come_and_go(shown: Gallery) -> None:
    made = [await add_track(shown.db, shown.owner, created_at=NOON + timedelta(seconds=i)) for i in range(6)]
    first = (await shown.mine.get("/api/v1/audio", params={"limit": 3})).json()
    assert [track["id"] for track in first["data"]] == made[:2:-1]
    await add_track(shown.db, shown.owner, created_at=NOON + timedelta(hours=1))
    assert (await shown.mine.delete(f"/api/v1/audio/{made[3]}")).status_code == 204
    second = (await shown.mine.get(first["next"])).json()
    assert [track["id"] for track in second["data"]] == made[2::-1]
    assert second["next"] is None
    assert second["next_cursor"] is None


async def test_the_next_page_keeps_the_filters(shown: Gallery) -> None:
    for i in range(4):
        await add_track(shown.db, shown.owner, campaign_id="a b&c" if i % 2 else None)
    first = (await shown.mine.get("/api/v1/audio", params={"campaign_id": "a b&c", "limit": 1})).json()
    second = (await shown.mine.get(first["next"])).json()
    assert [track["campaign_id"] for track in first["data"] + second["data"]] == ["a b&c"] * 2
    assert second["next"] is None


async def test_a_cursor_of_somebody_else_shows_nothing_of_theirs(shown: Gallery) -> None:
    theirs = [await add_track(shown.db, shown.stranger, created_at=NOON + timedelta(seconds=i)) for i in range(3)]
    page = (await shown.theirs.get("/api/v1/audio", params={"limit": 1})).json()
    assert page["data"][0]["id"] == theirs[2]
    assert await ids(shown, cursor=page["next_cursor"]) == []


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "bad",
    ["x", "ä", "====", encoded("nonsense"), encoded("2029-06-01T12:00:00 trk_" + "0" * 24),
     encoded("2029-06-01T12:00:00+02:00 trk_" + "0" * 24), encoded("2029-06-01T12:00:00+00:00 trk_1"),
     encoded("2029-06-01T12:00:00+00:00 trk_\0" + "0" * 23)],
)  # fmt: skip
async def test_a_cursor_that_is_none_is_refused(shown: Gallery, bad: str) -> None:
    response = await shown.mine.get("/api/v1/audio", params={"cursor": bad})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "cursor"


def test_a_cursor_comes_back_as_it_was() -> None:
    row = new_id("trk")
    assert cursor.read(cursor.write(NOON, row)) == (NOON, row)


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 101}, {"status": "lost"}, {"q": ""}, {"q": "a\0b"}, {"campaign_id": "\0"}, {"colour": "x"},
     {"q": "x" * 201}, {"created_after": "yesterday"}],
)  # fmt: skip
async def test_bad_filters_are_named(shown: Gallery, query: dict[str, Any]) -> None:
    response = await shown.mine.get("/api/v1/audio", params=query)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == next(iter(query))


async def test_pages_come_from_the_index(shown: Gallery) -> None:
    """Neither sorting nor reading the whole table: however many tracks there are, a page costs a page."""
    for _ in range(3):
        await add_track(shown.db, shown.owner)
    explain = "EXPLAIN QUERY PLAN " if shown.db.dialect == "sqlite" else "EXPLAIN "
    async with shown.db.read() as conn:
        if shown.db.dialect == "postgresql":
            await conn.execute(text("SET enable_seqscan = off"))
        captured: list[str] = []
        execute = type(conn).execute

        async def explained(self: Any, statement: Any, *args: Any) -> Any:
            compiled = statement.compile(self.sync_engine, compile_kwargs={"literal_binds": True})
            plan = await execute(self, text(explain + str(compiled).replace(":", "\\:")))
            captured.extend(str(row) for row in plan)
            return await execute(self, statement, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(conn), "execute", explained)
            after = cursor.write(NOON + timedelta(days=9999), new_id("trk"))
            await tracks.page(conn, shown.owner, tracks.Filters(), 2, after)
    plan = "\n".join(captured)
    assert "ix_tracks_gallery" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
