"""The engine behind asyncio: streams, aborts by closing, and a death that everyone hears of.

The stepping thread is held and let go by a gate inside the engine's own step, so nothing here waits by the clock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from models.engine.async_engine import AsyncEngine
from models.engine.engine import Engine
from models.engine.step import EngineOutput
from models.errors import EngineDeadError, EngineOverloadedError, GenerationFailedError, InvalidRequestError
from models.types import AudioChunk, GenerationRequest
from tests.models.engine_support import Track, alone, assert_idle, request, small_engine
from tests.models.test_engine_batching import VARIED, assert_same
from tests.models.test_engine_failures import POISON, faulty_text_engine

SOON = 90.0
"""Seconds that a wait may take before a test is given up; nothing is expected to come near."""


class Gate:
    """Lets the stepping thread through a given number of steps, or through all of them."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._step = engine.step
        self._permits = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._is_open = False
        self.crash: BaseException | None = None
        monkeypatch.setattr(engine, "step", self)

    def __call__(self) -> list[EngineOutput]:
        if not self._is_open:
            assert self._permits.acquire(timeout=SOON)
        if self.crash is not None:
            raise self.crash
        outputs = self._step()
        self._done.release()
        return outputs

    def permit(self, steps: int) -> None:
        """Let so many more steps begin, without waiting for them."""
        for _ in range(steps):
            self._permits.release()

    async def let_through(self, steps: int = 1) -> None:
        """Return once so many more steps are done."""
        for _ in range(steps):
            self._permits.release()
            assert await asyncio.to_thread(self._done.acquire, timeout=SOON)

    def open(self) -> None:
        self._is_open = True
        self._permits.release(1000)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[AsyncEngine]:
    serving = AsyncEngine(engine)
    try:
        yield serving
    finally:
        await asyncio.to_thread(serving.shutdown, SOON)
        assert not serving._thread.is_alive()


@pytest.fixture
def engine() -> Engine:
    return small_engine()


async def listen(serving: AsyncEngine, item: GenerationRequest) -> Track:
    track = Track()
    async with asyncio.timeout(SOON), aclosing(serving.generate(item)) as stream:
        async for chunk in stream:
            track.chunks.append(chunk)
    return track


async def flush(serving: AsyncEngine) -> None:
    """Return once the stepping thread has taken every command given so far."""
    taken, loop = asyncio.Event(), asyncio.get_running_loop()

    def answer() -> None:
        loop.call_soon_threadsafe(taken.set)

    with serving._wake:
        serving._inbox.append(answer)
        serving._wake.notify()
    await asyncio.wait_for(taken.wait(), SOON)


async def test_concurrent_streams_share_steps_and_equal_their_solo_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving, asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(serving, item)) for item in VARIED]
        await asyncio.sleep(0)  # all of them are in the inbox now
        gate.open()
        for item, task in zip(VARIED, tasks, strict=True):
            assert_same(await task, item)
    assert serving.stats().mean_rows_per_step > 4
    assert serving.stats().finished == len(VARIED)
    assert_idle(engine)


async def test_chunks_arrive_before_the_track_is_done(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving, aclosing(serving.generate(request(frames=60))) as stream:
        first: asyncio.Task[AudioChunk] = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await gate.let_through(30)
        chunk = await asyncio.wait_for(first, SOON)
        assert not chunk.is_last
        assert chunk.total_samples == 60 * 8
        gate.open()
        rest = [chunk async for chunk in stream]
        assert rest[-1].is_last


@pytest.mark.parametrize("steps", [0, 1, 20])
async def test_closing_a_stream_frees_its_rows_within_one_step(
    steps: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving:
        witness = asyncio.create_task(listen(serving, VARIED[1]))
        leaver = asyncio.create_task(listen(serving, request("leaver", frames=60)))
        await asyncio.sleep(0)
        await gate.let_through(steps)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        gate.permit(1)  # the step in hand
        await flush(serving)
        assert engine.stats().aborted == 1
        assert engine.stats().active_rows <= 2, "the witness only"
        gate.open()
        assert_same(await witness, VARIED[1])
    assert_idle(engine)


async def test_an_id_is_free_again_after_its_stream_was_closed(engine: Engine) -> None:
    async with running(engine) as serving:
        for _ in range(3):
            async with aclosing(serving.generate(VARIED[1])) as stream:
                await asyncio.wait_for(anext(stream), SOON)
        assert_same(await listen(serving, VARIED[1]), VARIED[1])


async def test_a_second_stream_with_an_id_in_use_fails_and_leaves_the_first_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving:
        first = asyncio.create_task(listen(serving, VARIED[0]))
        await asyncio.sleep(0)
        second = asyncio.create_task(listen(serving, VARIED[0]))
        await asyncio.sleep(0)
        gate.open()
        with pytest.raises(InvalidRequestError, match="already in use"):
            await second
        assert_same(await first, VARIED[0])


async def test_a_bad_request_is_refused_before_anything_is_queued(engine: Engine) -> None:
    async with running(engine) as serving:
        with pytest.raises(InvalidRequestError):
            await listen(serving, GenerationRequest("r", "x", 601.0))
        assert serving._inbox == []
        assert serving._open == set()


async def test_overload_reaches_its_caller_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine(max_rows=2, max_queue=1)
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving:
        tasks = [asyncio.create_task(listen(serving, request(str(index)))) for index in range(4)]
        await asyncio.sleep(0)
        gate.open()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [result for result in results if isinstance(result, EngineOverloadedError)]
    assert len(refused) == 2
    assert all(refusal.retry_after_s > 0 for refusal in refused)
    assert sum(isinstance(result, Track) and result.is_complete for result in results) == 2


async def test_a_failing_request_fails_alone() -> None:
    engine = faulty_text_engine()
    async with running(engine) as serving:
        witness = asyncio.create_task(listen(serving, VARIED[0]))
        with pytest.raises(GenerationFailedError):
            await listen(serving, request("bad", POISON))
        assert_same(await witness, VARIED[0])
        serving.check_health()


@pytest.mark.parametrize("crash", [RuntimeError("a bug"), AssertionError("an invariant"), SystemExit(3)])
async def test_a_crash_reaches_every_stream_and_the_health_check(
    crash: BaseException, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, monkeypatch)
    async with running(engine) as serving:
        serving.check_health()
        streams = [asyncio.create_task(listen(serving, item)) for item in VARIED]
        await asyncio.sleep(0)
        await gate.let_through(5)
        gate.crash = crash
        gate.open()
        late = asyncio.create_task(listen(serving, request("late")))
        for outcome in await asyncio.gather(*streams, late, return_exceptions=True):
            # "everything" is one frame long and may be done before the crash.
            assert isinstance(outcome, EngineDeadError) or (isinstance(outcome, Track) and outcome.is_complete)
            assert not isinstance(outcome, EngineDeadError) or str(crash) in str(outcome)
        with pytest.raises(EngineDeadError, match=type(crash).__name__):
            serving.check_health()
        with pytest.raises(EngineDeadError):
            await listen(serving, request("after"))
        assert serving.stats().steps == 5, "the counters outlive the engine"


async def test_shutdown_tells_open_streams(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(engine, monkeypatch)
    serving = AsyncEngine(engine)
    streams = [asyncio.create_task(listen(serving, item)) for item in VARIED[:3]]
    await asyncio.sleep(0)
    await gate.let_through(2)
    serving.shutdown(timeout_s=0)
    gate.open()
    await asyncio.to_thread(serving.shutdown, SOON)
    for outcome in await asyncio.gather(*streams, return_exceptions=True):
        assert isinstance(outcome, EngineDeadError)
    serving.shutdown()
    with pytest.raises(EngineDeadError, match="shut down"):
        serving.check_health()


async def test_an_idle_engine_sleeps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without work the thread waits on its condition: turns are counted, not time."""
    turns = 0
    real_turn = AsyncEngine._turn

    def counted(self: AsyncEngine) -> bool:
        nonlocal turns
        turns += 1
        return real_turn(self)

    monkeypatch.setattr(AsyncEngine, "_turn", counted)
    async with running(engine) as serving:
        await listen(serving, request(frames=5))
        await flush(serving)
        before = turns
        alone(request(frames=50))  # time passes, and somebody else gets all of it
        assert turns <= before + 1, "the turn of the last command may just have begun its wait"
        await listen(serving, request(frames=5))


def test_streams_of_several_event_loops_share_the_engine(engine: Engine) -> None:
    results: dict[int, Track] = {}
    serving = AsyncEngine(engine)

    def other_loop(index: int) -> None:
        results[index] = asyncio.run(listen(serving, VARIED[index]))

    threads = [threading.Thread(target=other_loop, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    serving.shutdown(SOON)
    for index, track in results.items():
        assert_same(track, VARIED[index])
    assert len(results) == 3


async def test_loading_by_path(tmp_path: Any) -> None:
    from models.engine_config import EngineConfig
    from tests.factories import make_checkpoint

    path = make_checkpoint(tmp_path, hidden=32, ffn=64, vocab=64, ratios=(4, 2))
    serving = AsyncEngine.from_path(path, EngineConfig(return_codes=True, num_threads=1))
    try:
        assert_same(await listen(serving, VARIED[2]), VARIED[2])
    finally:
        serving.shutdown(SOON)
    assert alone(VARIED[2]).is_complete
