"""Tracks that go on from sound: encoded as transformers encodes it, beside the steps of others."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.engine.async_engine import AsyncEngine
from models.errors import InvalidRequestError
from models.types import AudioChunk, AudioPrompt, GenerationRequest
from tests.models.engine_support import Track, drive, request
from tests.models.test_engine_continuation import checkpoint, codes_of, engine_of, going_on

RATE = 400
"""Of the small codec: 8 samples a frame."""


def sound(samples: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """``[samples, channels]``"""
    return np.random.default_rng(seed).uniform(-1, 1, (samples, channels)).astype("<f4")


def heard(item: GenerationRequest, samples: NDArray[np.float32], rate: int = RATE) -> GenerationRequest:
    return replace(item, continues=AudioPrompt(samples.astype("<f4").tobytes(), samples.shape[1], rate))


def track_of(item: GenerationRequest, stereo: bool = False) -> Track:
    engine, track = engine_of(stereo=stereo), Track()
    track.chunks += engine.generate(item)
    return track


@torch.inference_mode()
def their_codes(samples: NDArray[np.float32], stereo: bool) -> NDArray[np.int64]:
    """``[K, frames]``, each channel by transformers."""
    codec: Any = checkpoint("torch", stereo)[1].model.audio_encoder
    channels = [codec.encode(torch.from_numpy(channel)[None, None]).audio_codes[0, 0] for channel in samples.T]
    codes: NDArray[np.int64] = torch.stack(channels, dim=1).flatten(0, 1).numpy()
    return codes


@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_a_track_goes_on_from_sound(stereo: bool) -> None:
    """Its beginning is the sound's codes, the last frame a part of one, and the rest what follows from those."""
    item, samples = request("r", frames=30, seed=2), sound(8 * 11 + 3, 1 + stereo)
    codes = their_codes(samples, stereo)
    made = codes_of(track_of(heard(item, samples), stereo), stereo)
    np.testing.assert_array_equal(made[:, :12], codes)
    from_codes = drive(engine_of(stereo=stereo), {0: [going_on(item, codes)]})["r"]
    np.testing.assert_array_equal(made, codes_of(from_codes, stereo))


def test_channels_are_mixed_down_or_taken_for_both() -> None:
    item = request("r", frames=30)
    both = sound(96, 2)
    mono = codes_of(track_of(heard(item, both)))
    np.testing.assert_array_equal(mono[:, :12], their_codes(both.mean(1, keepdims=True), stereo=False))
    stereo = codes_of(track_of(heard(item, sound(96)), stereo=True), stereo=True)
    np.testing.assert_array_equal(stereo[0::2, :12], stereo[1::2, :12])


def test_nobody_waits_for_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request's sound is being encoded until another's track, asked for later, is complete."""
    engine, may_go_on = engine_of(), threading.Event()
    encoded = engine.encoded

    def slowly(item: GenerationRequest) -> GenerationRequest:
        assert may_go_on.wait(60)
        return encoded(item)

    monkeypatch.setattr(engine, "encoded", slowly)
    running = AsyncEngine(engine)

    async def listen(item: GenerationRequest) -> list[AudioChunk]:
        return [chunk async for chunk in running.generate(item)]

    async def both() -> list[AudioChunk]:
        slow = asyncio.create_task(listen(heard(request("slow", frames=20), sound(80))))
        assert (await listen(request("plain", frames=20)))[-1].is_last
        assert not slow.done()
        may_go_on.set()
        return await slow

    try:
        assert asyncio.run(both())[-1].is_last
    finally:
        may_go_on.set()
        running.shutdown()


def test_what_can_not_be_gone_on_from_is_refused_before_anything_is_queued() -> None:
    engine, item = engine_of(), request("r", frames=30)
    bad = sound(80)
    bad[7] = np.nan
    cases = [
        (heard(item, sound(80), rate=32_000), "continue", "takes 400"),
        (heard(item, sound(8 * 40 + 1)), "continue", "at most 0.8"),
        (heard(request("r", frames=10), sound(80)), "duration", "ask for more"),
        (heard(item, bad), "continue", "no numbers"),
    ]
    for wrong, param, message in cases:
        with pytest.raises(InvalidRequestError) as refusal:
            next(engine.generate(wrong))
        assert (refusal.value.param, message in str(refusal.value)) == (param, True), refusal.value
    assert not engine.has_work


def test_a_checkpoint_without_an_encoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of()
    decoding = {name: each for name, each in engine._prompts._state.items() if not name.startswith("encoder.")}
    monkeypatch.setattr(engine._prompts, "_state", decoding)
    with pytest.raises(InvalidRequestError, match="no encoder") as refusal:
        engine.check_request(heard(request("r", frames=60), sound(80)))
    assert refusal.value.param == "continue"


@pytest.mark.parametrize(("pcm", "channels"), [(b"", 1), (b"\0" * 6, 1), (b"\0" * 12, 2), (b"\0" * 12, 3)])
def test_bytes_that_are_no_sound_are_refused(pcm: bytes, channels: int) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        AudioPrompt(pcm, channels, 32_000)
    assert refusal.value.param is None  # it may be a melody as well


def test_a_melody_is_sound_and_for_models_that_follow_one() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        replace(request("r", frames=30), melody=b"")  # type: ignore[arg-type]
    assert refusal.value.param == "melody"
    tune = AudioPrompt(sound(80).astype("<f4").tobytes(), 1, 400)
    with pytest.raises(InvalidRequestError, match="ask a melody model") as refusal:
        engine_of().check_request(replace(request("r", frames=30), melody=tune))
    assert refusal.value.param == "melody"
