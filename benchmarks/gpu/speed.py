"""How fast is it? Ceilings, steps at the mean length of a track, the host's share, first audio, listeners."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch

from models.encodec.streaming import StreamingDecoder, decode_batch
from models.engine.engine import Engine
from models.engine.graph_runner import GraphRunner
from models.engine.loader import LoadedModel
from models.engine_config import EngineConfig
from models.errors import TuttiError
from models.musicgen.static_cache import StaticKVCache
from models.types import GenerationRequest, SamplingParams

_REPEATS = 3


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def median_s(run: Callable[[], object], device: str, calls: int) -> float:
    """Seconds per call: the median of some rounds of so many calls, each waited for at its end."""
    rounds = []
    run()
    for _ in range(_REPEATS):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        synchronize(device)
        rounds.append((time.perf_counter() - begin) / calls)
    return statistics.median(rounds)


def ceilings(device: str, quick: bool) -> dict[str, float]:
    """Bytes per second of a copy, read and written counted, and FLOP per second of one large bfloat16 product."""
    source = torch.ones((16 << 20) if quick else (2 << 30), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    size = 256 if quick else 8192
    left = torch.randn(size, size, device=device).to(torch.bfloat16)
    copy_s = median_s(lambda: target.copy_(source), device, 5)
    return {
        "copy_bytes_per_s": 2 * source.nbytes / copy_s,
        "bf16_flop_per_s": 2.0 * size**3 / median_s(lambda: left @ left, device, 5),
    }


def _request(index: int, seconds: float, live: bool = True) -> GenerationRequest:
    prompt = f"warm bass, soft drums and a slow melody, take {index}"
    return GenerationRequest(str(index), prompt, seconds, index, SamplingParams(), live=live)


def _engine(model: LoadedModel, config: EngineConfig, streams: int, seconds: float, ahead: int) -> Engine:
    """Room for so many guided tracks of that length, all at once."""
    positions = 2 * streams * (int(seconds * model.config.frame_rate) + 4)
    room = replace(config, max_rows=2 * streams, kv_positions=positions, max_queue=streams, run_ahead=ahead)
    return Engine(model, room)


@torch.inference_mode()
def step_times(model: LoadedModel, config: EngineConfig, streams: int, seconds: float, calls: int) -> dict[str, float]:
    """One replayed step of that many guided streams, all in the middle of their tracks, and the host's part of one."""
    engine, device = _engine(model, config, streams, seconds, ahead=0), config.device
    for layer in cast(StaticKVCache, engine._cache).layers:  # what nobody has written may be no number at all
        layer.keys.zero_()
        layer.values.zero_()
    for index in range(streams):
        engine.add(_request(index, seconds, live=False))
    while engine.stats().waiting:
        engine.step()
    graphs = engine._runner
    assert isinstance(graphs, GraphRunner), "the step is not captured: this is a bug"
    middle = int(seconds * model.config.frame_rate) // 2
    graphs._buffers.steps[:-1].fill_(middle)

    def step() -> None:
        graphs._buffers.steps[:-1].fill_(middle)
        graphs._executor.launch(graphs._bucket)

    step_s = median_s(step, device, calls)
    plan = engine._scheduler.schedule(time.perf_counter())
    graphs._run_ahead, host_calls = 10**6, min(calls, 20)
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(host_calls):
        graphs.run(plan)
    host_s = (time.perf_counter() - begin) / host_calls
    synchronize(device)
    return {
        "streams": streams,
        "ms_per_step": 1e3 * step_s,
        "audio_s_per_s": streams / model.config.frame_rate / step_s,
        "host_ms_per_step": 1e3 * host_s,
    }


@torch.inference_mode()
def first_audio(model: LoadedModel, config: EngineConfig, repeats: int) -> dict[str, float]:
    """From a request to its first samples in memory, in an engine that is idle; every prompt is new."""
    engine, times = _engine(model, config, 1, 2.0, ahead=2), []
    for index in range(repeats + 1):
        begin = time.perf_counter()
        track = engine.generate(_request(index, 1.0))
        next(track)
        times.append(time.perf_counter() - begin)
        track.close()
    return {"median_ms": 1e3 * statistics.median(times[1:]), "first_ever_ms": 1e3 * times[0]}


@torch.inference_mode()
def listeners(
    model: LoadedModel, config: EngineConfig, players: int, seconds: float, limit_s: float
) -> dict[str, float]:
    """So many listen from the start, each to a track of their own: who ran dry, and where the time went."""
    engine = _engine(model, config, players, seconds, ahead=2)
    for index in range(players):
        engine.add(_request(index, seconds))
    begin = time.perf_counter()
    while engine.has_work and time.perf_counter() - begin < limit_s:
        for output in engine.step():
            if isinstance(output.news, TuttiError):
                raise output.news
    wall_s, stats = time.perf_counter() - begin, engine.stats()
    return {
        "listeners": players,
        "finished": stats.finished,
        "underruns": stats.underruns,
        "stall_s": stats.stall_seconds,
        "audio_s_per_s": stats.audio_seconds / wall_s,
        "codec_share_of_host": stats.codec / stats.step_seconds,
        "text_share_of_host": stats.text_encode / stats.step_seconds,
    }


@torch.inference_mode()
def shares(model: LoadedModel, device: str, streams: int, step_ms: float) -> dict[str, float]:
    """What codec and T5 cost beside the steps of saturated streams, each in seconds of the device.

    Args:
        step_ms: one step of so many streams; a frame of each.
    """
    channels, chunk = model.config.channels, model.config.frame_rate  # a second of audio at a time
    codebooks = model.config.decoder.num_codebooks // channels
    codes = torch.zeros(codebooks, chunk, dtype=torch.int64, device=device)
    decoders = [StreamingDecoder(model.codec, 10**6) for _ in range(streams * channels)]
    codec_s = median_s(lambda: decode_batch(decoders, [codes] * len(decoders)), device, 2)
    takes = itertools.count()  # a prompt that was encoded is remembered
    text_s = median_s(lambda: model.text.encode(f"warm bass, soft drums, a slow melody, take {next(takes)}"), device, 5)
    track_s = model.config.max_duration_s
    per_audio_s = (codec_s / streams, text_s / track_s, step_ms / 1e3 * model.config.frame_rate / streams)
    return {
        "codec_ms_per_audio_s": 1e3 * per_audio_s[0],
        "text_ms_per_prompt": 1e3 * text_s,
        "codec_and_text_share": sum(per_audio_s[:2]) / sum(per_audio_s),
    }
