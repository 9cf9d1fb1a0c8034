"""Two seconds of music: whether a model makes sound at all, and how fast."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.checkpoint_files import CheckpointFiles
from models.config import ModelConfig
from models.engine.async_engine import AsyncEngine
from models.engine_config import EngineConfig
from models.errors import CheckpointError
from models.style_prompt import StylePrompt
from models.types import AudioChunk, AudioPrompt, GenerationRequest

TRIAL_S = 2.0
PROMPT = "calm piano"
_ROWS = 3  # of a guided request with a text and a style; none has more
_SILENCE = 1e-4  # of full scale; −80 dB


@dataclass(frozen=True, slots=True)
class Trial:
    """
    Attributes:
        load_s: until the model was ready.
        generation_s: for ``TRIAL_S`` of music, alone in the engine.
        real_time_factor: seconds of music per second.
        peak, rms: of the samples, full scale is 1.
        heard: what it was given besides the text, as its model can: a melody, a style.
    """

    load_s: float
    generation_s: float
    real_time_factor: float
    peak: float
    rms: float
    sample_rate: int
    channels: int
    heard: tuple[str, ...]


def try_out(files: CheckpointFiles, config: EngineConfig | None = None) -> Trial:
    """Load a checkpoint, every tensor checked, and let it play.

    Raises:
        CheckpointError: a file, tensor or value is wrong, or what comes out is no music: too few samples, no numbers,
            or silence.
    """
    shape, began_at = ModelConfig.from_folder(files), time.perf_counter()
    config = config or EngineConfig()
    engine = AsyncEngine.from_path(files, replace(config, max_rows=_ROWS))
    loaded_at = time.perf_counter()
    try:
        chunks = asyncio.run(_collect(engine, _request(shape)))
    finally:
        engine.shutdown()
    generation_s = time.perf_counter() - loaded_at
    samples = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), dtype="<f4")
    first = chunks[0]
    peak, rms = check_audio(samples, first.total_samples * first.channels)
    seconds = first.total_samples / first.sample_rate
    return Trial(
        load_s=loaded_at - began_at,
        generation_s=generation_s,
        real_time_factor=seconds / generation_s,
        peak=peak,
        rms=rms,
        sample_rate=first.sample_rate,
        channels=first.channels,
        heard=tuple(name for name in shape.conditioners if name != "text"),
    )


def _request(shape: ModelConfig) -> GenerationRequest:
    heard = scale(shape.sample_rate)
    return GenerationRequest(
        "trial",
        PROMPT,
        TRIAL_S,
        melody=heard if shape.takes_melody else None,
        style=StylePrompt(heard) if shape.takes_style else None,
    )


def scale(sample_rate: int) -> AudioPrompt:
    """Eight notes upwards from middle C, a quarter of a second each."""
    time_s = np.arange(sample_rate // 4) / sample_rate
    notes_hz = (261.63 * 2 ** (semitones / 12) for semitones in (0, 2, 4, 5, 7, 9, 11, 12))
    sound = np.concatenate([0.5 * np.sin(2 * np.pi * hz * time_s) for hz in notes_hz])
    return AudioPrompt(sound.astype("<f4").tobytes(), 1, sample_rate)


def check_audio(samples: NDArray[np.float32], expected: int) -> tuple[float, float]:
    """Peak and root mean square of music that can be listened to.

    Raises:
        CheckpointError: it can not.
    """
    if len(samples) != expected:
        raise CheckpointError(f"it made {len(samples)} samples instead of {expected}")
    if not np.isfinite(samples).all():
        raise CheckpointError(f"{np.count_nonzero(~np.isfinite(samples))} of {expected} samples are no numbers")
    peak, rms = float(np.abs(samples).max()), float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    if peak < _SILENCE:
        raise CheckpointError(f"it made silence: no sample is above {_SILENCE:g} of full scale")
    return peak, rms


async def _collect(engine: AsyncEngine, request: GenerationRequest) -> list[AudioChunk]:
    return [chunk async for chunk in engine.generate(request)]
