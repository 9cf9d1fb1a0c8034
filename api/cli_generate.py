"""``tutti generate``: one track into a file, from an engine in this process or from a server."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from api.cli_client import ServerGenerator
from api.cli_continue import OPTION, read_prompt
from api.cli_files import FORMATS, TrackFiles, check_target
from api.cli_output import CliError, print_json, stderr, usage_error
from api.cli_progress import StreamProgress
from models.errors import InvalidRequestError
from models.types import DEFAULT_EXTEND_STRIDE_S, AudioChunk, GenerationRequest, Generator, SamplingParams

DEFAULTS = SamplingParams()
API_KEY_VARIABLE = "TUTTI_API_KEY"

Key = Annotated[
    str | None,
    typer.Option(envvar=API_KEY_VARIABLE, help="API key for --url; better not here, where others see it."),
]


@dataclass(frozen=True, slots=True)
class Made:
    """What a run reports; the fields are those of ``--json``.

    Attributes:
        seconds: length of the track.
        model: id or checkpoint.
        generation_s: from the request to the last sample, without loading the model.
        real_time_factor: seconds of music per second of waiting.
        load_s: loading the model; 0 with ``--url``.
    """

    path: str
    seconds: float
    sample_rate: int
    channels: int
    prompt: str
    seed: int
    model: str | None
    generation_s: float
    real_time_factor: float
    time_to_first_audio_s: float
    load_s: float
    tokens_path: str | None = None


def generate(
    prompt: Annotated[str, typer.Argument(help='What to play; "" is music without a prompt.', show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .wav, .flac or .mp3.")],
    model: Annotated[
        str | None, typer.Option(help="tiny, a name of the catalog, or a folder; with --url an id.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of music.")] = 10.0,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same music; default: a new one.")] = None,
    guidance: Annotated[float, typer.Option(help="How closely to follow the prompt.")] = DEFAULTS.guidance,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = DEFAULTS.temperature,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest tokens; 0 for all.")] = DEFAULTS.top_k,
    top_p: Annotated[float, typer.Option(help="Draw among this much probability; replaces top_k.")] = DEFAULTS.top_p,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    tokens_out: Annotated[Path | None, typer.Option(help="Also write the codes: int64 [K, frames], .npy.")] = None,
    continue_: Annotated[
        Path | None, typer.Option(OPTION, help="Go on from this: codes (.npy) or audio, which begins the track.")
    ] = None,
    extend_stride: Annotated[
        float, typer.Option(help="Beyond 30 s: seconds from one window to the next.")
    ] = DEFAULT_EXTEND_STRIDE_S,
    url: Annotated[str | None, typer.Option(help="Let the server at this address make it.")] = None,
    key: Key = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Make one track and write it to a file, which appears only when it is whole."""
    check_target(output, tuple(FORMATS), "--output")
    if tokens_out is not None:
        check_target(tokens_out, (".npy",), "--tokens-out")
        if url is not None:
            raise usage_error("--tokens-out needs the engine in this process: a server streams audio only. Drop --url")
    if url is not None and (continue_ is not None or extend_stride != DEFAULT_EXTEND_STRIDE_S):
        raise usage_error(f"{OPTION} and --extend-stride need the engine in this process. Drop --url")
    if prompt and not prompt.strip():
        raise usage_error('the prompt is blank: say what to play, or give "" for music without a prompt')
    request = GenerationRequest(
        request_id=uuid.uuid4().hex,
        prompt=prompt,
        duration_s=duration,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        sampling=SamplingParams(guidance, temperature, top_k, top_p, greedy),
        continues=None if continue_ is None else read_prompt(continue_),
        extend_stride_s=extend_stride,
    )
    if url is None:
        made = _make_here(request, model or "tiny", output, tokens_out)
    else:
        made = _make_there(request, ServerGenerator(url, model, key=key), output)
    if json:
        print_json(asdict(made))
    else:
        _tell(made)


def _make_here(request: GenerationRequest, model: str, output: Path, tokens_out: Path | None) -> Made:
    """Run the engine in this process; torch is loaded here and not before."""
    from models.catalog import describe, locate
    from models.engine_config import EngineConfig

    files = locate(model)
    spec = describe(files)
    if request.duration_s > spec.max_duration_s:
        raise InvalidRequestError(
            f"duration is {request.duration_s:g} s, {model} makes at most {spec.max_duration_s:g} s", param="duration"
        )
    started = time.perf_counter()
    with stderr.status(f"Loading {model} …"):
        from models.engine.async_engine import AsyncEngine

        engine = AsyncEngine.from_path(files, EngineConfig(max_rows=2, return_codes=tokens_out is not None))
    load_s = time.perf_counter() - started
    try:
        written = TrackFiles(output, tokens_out, num_codebooks=spec.num_codebooks)
        return asyncio.run(_write(engine, request, written)).report(request, output, tokens_out, model, load_s)
    finally:
        engine.shutdown()


def _make_there(request: GenerationRequest, server: ServerGenerator, output: Path) -> Made:
    written = asyncio.run(_write(server, request, TrackFiles(output)))
    return written.report(request, output, None, server.model, 0.0)


@dataclass(frozen=True, slots=True)
class _Written:
    """A whole track: its last chunk, and when things happened, in seconds after the request."""

    last: AudioChunk
    first_audio_s: float
    end_s: float

    def report(
        self, request: GenerationRequest, output: Path, tokens_out: Path | None, model: str | None, load_s: float
    ) -> Made:
        seconds = self.last.total_samples / self.last.sample_rate
        return Made(
            path=str(output),
            seconds=round(seconds, 3),
            sample_rate=self.last.sample_rate,
            channels=self.last.channels,
            prompt=request.prompt,
            seed=request.seed,
            model=model,
            generation_s=round(self.end_s, 3),
            real_time_factor=round(seconds / self.end_s, 3),
            time_to_first_audio_s=round(self.first_audio_s, 3),
            load_s=round(load_s, 3),
            tokens_path=None if tokens_out is None else str(tokens_out),
        )


async def _write(generator: Generator, request: GenerationRequest, files: TrackFiles) -> _Written:
    """Drain the generator into the files, which get their names only after the last chunk."""
    started = time.perf_counter()
    first_audio_s: float | None = None
    last: AudioChunk | None = None
    with files, StreamProgress(stderr, request.duration_s) as progress:
        # Every implementation is an async generator; closing it is how a request is given up.
        async with aclosing(cast("AsyncGenerator[AudioChunk]", generator.generate(request))) as chunks:
            async for chunk in chunks:
                if first_audio_s is None:
                    first_audio_s = time.perf_counter() - started
                files.write(chunk)
                progress.advance(chunk.duration_s)
                if chunk.is_last:
                    last = chunk
        if last is None or first_audio_s is None:
            raise CliError("the music ended before its last piece", "truncated")
        files.commit()
    return _Written(last, first_audio_s, time.perf_counter() - started)


def _tell(made: Made) -> None:
    speed = f"{made.generation_s:.1f} s ({made.real_time_factor:.1f}× real time)"
    start = f"first audio after {made.time_to_first_audio_s:.2f} s"
    stderr.print(f"{made.path}: {made.seconds:g} s of music in {speed}, {start}, seed {made.seed}", markup=False)
