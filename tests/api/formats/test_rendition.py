"""Finished tracks as files: the live bytes where nothing else was asked, and what was asked where something was."""

from __future__ import annotations

import io

import numpy as np
import pyloudnorm
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from api.formats.audio import FORMATS, LIVE_FORMATS, AudioFormat, LiveFormat, live_encoder, to_pcm16
from api.formats.loudness import gain_to, integrated_loudness
from api.formats.rendition import FileEncoder, Rendition
from models.errors import InvalidRequestError
from tests.api.fakes import SAMPLE_RATE, sine

Track = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def encode(rendition: Rendition, track: Track, step: int = 6_400, factor: np.float32 | None = None) -> bytes:
    encoder = FileEncoder(rendition, SAMPLE_RATE, track.shape[1], len(track), factor)
    parts = [encoder.encode(track[at : at + step]) for at in range(0, len(track), step)]
    return b"".join(parts) + encoder.finish()


def decode(data: bytes, dtype: str = "float64") -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(data), dtype=dtype, always_2d=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", LIVE_FORMATS)
def test_a_finished_track_is_the_bytes_that_were_streamed(name: LiveFormat, channels: int) -> None:
    track = sine(5, 30_000, channels)
    live = live_encoder(name, SAMPLE_RATE, channels, len(track))
    pieces = to_pcm16(track.tobytes(), channels)
    streamed = b"".join(live.encode(pieces[at : at + 6_400]) for at in range(0, len(track), 6_400)) + live.finish()
    assert encode(Rendition(name), track, 128_000) == streamed


@settings(max_examples=30, deadline=None)
@given(
    total=st.integers(1, 9_000),
    step=st.integers(1, 5_000),
    channels=st.integers(1, 2),
    name=st.sampled_from(FORMATS),
    rate=st.sampled_from([None, 48_000]),
)
def test_chunks_do_not_show(total: int, step: int, channels: int, name: AudioFormat, rate: int | None) -> None:
    track = sine(5, total, channels)
    step = max(step, total // 50 + 1)
    rendition = Rendition(name, rate)
    assert encode(rendition, track, step) == encode(rendition, track, total)


@pytest.mark.parametrize("name", ["wav24", "flac24"])
def test_24_bits_are_exact_to_half_a_step(name: AudioFormat) -> None:
    track = sine(5, 10_001, 2)
    decoded, rate = decode(encode(Rendition(name), track), "int32")
    assert rate == SAMPLE_RATE
    assert np.array_equal(decoded >> 8, np.rint(track.astype(np.float64) * (2**23 - 1)))
    assert soundfile.info(io.BytesIO(encode(Rendition(name), track))).subtype == "PCM_24"


def test_floats_are_the_samples_themselves() -> None:
    track = sine(5, 10_001, 2)
    decoded, _ = decode(encode(Rendition("wav32f"), track), "float32")
    assert np.array_equal(decoded, track)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("name", ["wav24", "flac24", "wav32f", "wav", "flac"])
def test_resampled_it_is_the_same_music(name: AudioFormat, rate: int) -> None:
    decoded, got = decode(encode(Rendition(name, rate), sine(3, SAMPLE_RATE)))
    assert (got, len(decoded)) == (rate, rate)
    pitch = 220.0 * 2 ** (3 / 12)
    clean = 0.5 * np.sin(2 * np.pi * pitch * np.arange(rate) / rate)
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(decoded[middle, 0] - clean[middle]).max() < 1e-4


def test_the_wanted_loudness_is_reached() -> None:
    track = sine(3, 3 * SAMPLE_RATE, 2)
    own = integrated_loudness(track, SAMPLE_RATE)
    assert own is not None
    gain = gain_to(-23.0, own, float(np.abs(track).max()))
    decoded, _ = decode(encode(Rendition("wav32f", None, -23.0), track, factor=gain.factor))
    assert pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(decoded) == pytest.approx(-23.0, abs=0.01)
    assert gain.loudness_lufs == pytest.approx(-23.0)
    assert not gain.is_limited


def test_peaks_stay_below_the_limit_and_it_is_said() -> None:
    track = 0.05 * sine(3, 3 * SAMPLE_RATE)
    track[1_000] = 0.5
    gain = gain_to(-14.0, integrated_loudness(track, SAMPLE_RATE), 0.5)
    assert gain.is_limited
    assert gain.loudness_lufs is not None
    assert gain.loudness_lufs < -14.0
    decoded, _ = decode(encode(Rendition("wav32f", None, -14.0), track, factor=gain.factor))
    assert np.abs(decoded).max() == pytest.approx(10 ** (-1 / 20), abs=1e-6)


@pytest.mark.parametrize(("loudness", "peak"), [(None, 0.0), (None, 0.5), (-30.0, 0.0)])
def test_what_has_no_loudness_stays_as_it_is(loudness: float | None, peak: float) -> None:
    gain = gain_to(-14.0, loudness, peak)
    assert (gain.db, float(gain.factor), gain.is_limited) == (0.0, 1.0, False)


@pytest.mark.parametrize(
    ("name", "rate", "loudness", "param"),
    [
        ("wav", 22_050, None, "sample_rate"),
        ("opus", 44_100, None, "sample_rate"),
        ("mp3", 44_100, None, "sample_rate"),
        ("mp3", 96_000, None, "sample_rate"),
        ("wav", None, -4.9, "loudness"),
        ("wav", None, -41.0, "loudness"),
        ("wav", None, float("nan"), "loudness"),
    ],
)
def test_what_cannot_be_made_is_refused(name: AudioFormat, rate: int | None, loudness: float, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Rendition(name, rate, loudness)
    assert caught.value.param == param


@pytest.mark.parametrize("name", FORMATS)
def test_media_types_are_the_encoders(name: AudioFormat) -> None:
    rendition = Rendition(name)
    if name in LIVE_FORMATS:
        assert live_encoder(name, SAMPLE_RATE, 2, 9).media_type == rendition.media_type(SAMPLE_RATE, 2)
    assert rendition.media_type(SAMPLE_RATE, 2).startswith("audio/")
