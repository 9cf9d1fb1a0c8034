"""``tutti generate``: tracks into files, from an engine in this process or from a server."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from api.cli_client import ServerMaker
from api.cli_order import OPTIONS, Order
from api.cli_output import print_json, stderr, usage_error
from api.cli_separation import Separation, told
from api.cli_sounds import choose, read_prompt, read_sound
from api.cli_tracks import Made, Target, write
from models.errors import InvalidRequestError
from models.style_prompt import StylePrompt
from models.types import (
    DEFAULT_EXTEND_STRIDE_S,
    DEFAULT_STYLE_BETA,
    AudioChunk,
    GenerationRequest,
    Generator,
    SamplingParams,
)

if TYPE_CHECKING:
    from models.catalog import ModelSpec

DEFAULTS = SamplingParams()
API_KEY_VARIABLE = "TUTTI_API_KEY"
MAX_TRACKS = 64

Key = Annotated[
    str | None,
    typer.Option(envvar=API_KEY_VARIABLE, help="API key for --url; better not here, where others see it."),
]


def generate(
    prompt: Annotated[str, typer.Argument(help='What to play; "" is music without a prompt.', show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .wav, .flac or .mp3.")],
    model: Annotated[
        str | None, typer.Option(help="tiny, a name of the catalog, or a folder; with --url an id.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of music.")] = 10.0,
    num_tracks: Annotated[
        int, typer.Option(min=1, max=MAX_TRACKS, help="Variations: out-0.wav, out-1.wav …; track i has seed + i.")
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same music; default: a new one.")] = None,
    guidance: Annotated[float, typer.Option(help="How closely to follow the prompt.")] = DEFAULTS.guidance,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = DEFAULTS.temperature,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest tokens; 0 for all.")] = DEFAULTS.top_k,
    top_p: Annotated[float, typer.Option(help="Draw among this much probability; replaces top_k.")] = DEFAULTS.top_p,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    tokens_out: Annotated[Path | None, typer.Option(help="Also write the codes: int64 [K, frames], .npy.")] = None,
    continue_: Annotated[
        str | None,
        typer.Option(
            OPTIONS["continuation"], help="Go on from this audio or these codes (.npy), which begin the track."
        ),
    ] = None,
    melody: Annotated[str | None, typer.Option(OPTIONS["melody"], help="Follow the tune of this audio.")] = None,
    melody_separation: Annotated[
        str | None, typer.Option(help="Out of it first: none or htdemucs (drums, bass); default: as the server does.")
    ] = None,
    separator: Annotated[Path | None, typer.Option(help="Weights of htdemucs, for the engine in this process.")] = None,
    style: Annotated[str | None, typer.Option(OPTIONS["style"], help="Sound like this audio.")] = None,
    guidance_beta: Annotated[
        float | None,
        typer.Option(
            help=f"Beside a melody or style: how much the prompt counts; default {DEFAULT_STYLE_BETA:g} or 1."
        ),
    ] = None,
    style_excerpt: Annotated[float | None, typer.Option(help="Seconds of the style that are heard; default 3.")] = None,
    style_streams: Annotated[int | None, typer.Option(help="1 to 6: how much of them is heard; default 3.")] = None,
    extend_stride: Annotated[
        float | None,
        typer.Option(help=f"Beyond 30 s: seconds from one window to the next; default {DEFAULT_EXTEND_STRIDE_S:g}."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Let the server at this address make it.")] = None,
    key: Key = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for machines.")] = False,
) -> None:
    """Make music and write it to files, which appear only when all of it is whole.

    With --url, audio may also be the id of a track or upload there.
    """
    targets = Target.of(output, tokens_out, num_tracks)
    if tokens_out is not None and url is not None:
        raise usage_error("--tokens-out needs the engine in this process: a server streams audio only. Drop --url")
    if prompt and not prompt.strip():
        raise usage_error('the prompt is blank: say what to play, or give "" for music without a prompt')
    request = GenerationRequest(
        request_id=uuid.uuid4().hex,
        prompt=prompt,
        duration_s=duration,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        sampling=SamplingParams(guidance, temperature, top_k, top_p, greedy, guidance_beta),
        extend_stride_s=DEFAULT_EXTEND_STRIDE_S if extend_stride is None else extend_stride,
    )
    given = choose({"melody": melody, "continuation": continue_, "style": style}, has_server=url is not None)
    separation = Separation.of(melody_separation, separator, given, has_server=url is not None)
    order = Order(request, num_tracks, extend_stride, given, style_excerpt, style_streams)
    made = (
        _make_here(order, model or "tiny", targets, separation)
        if url is None
        else _make_there(order, ServerMaker(url, model, key=key, melody_separation=separation.wanted), targets)
    )
    if json:
        print_json(asdict(made))
    else:
        _tell(made)


class _EngineMaker:
    """An engine in this process."""

    def __init__(self, engine: Generator) -> None:
        self._engine = engine

    @asynccontextmanager
    async def make(self, order: Order) -> AsyncIterator[Sequence[AsyncGenerator[AudioChunk]]]:
        requests = [
            replace(order.request, request_id=f"{order.request.request_id}.{position}", seed=seed)
            for position, seed in enumerate(order.seeds)
        ]
        # Every implementation is an async generator; closing it is how a request is given up.
        yield [cast("AsyncGenerator[AudioChunk]", self._engine.generate(request)) for request in requests]


def _make_here(order: Order, model: str, targets: Sequence[Target], separation: Separation) -> Made:
    """Run the engine in this process; torch is loaded here and not before."""
    from models.catalog import describe, locate
    from models.engine_config import EngineConfig

    files = locate(model)
    spec = describe(files)
    _check(order, spec)
    order = separation.here(_with_sounds(order, spec))
    rows = max(2, order.request.num_rows) * order.num_tracks
    config = EngineConfig(max_rows=rows, return_codes=targets[0].tokens is not None)
    started = time.perf_counter()
    with stderr.status(f"Loading {model} …"):
        from models.engine.async_engine import AsyncEngine

        engine = AsyncEngine.from_path(files, separation.set_up(config))
    load_s = time.perf_counter() - started
    try:
        written = asyncio.run(write(_EngineMaker(engine), order, targets, spec.num_codebooks))
    finally:
        engine.shutdown()
    return replace(written.report(order, targets, model, load_s), melody_separation=separation.heard(order))


def _make_there(order: Order, server: ServerMaker, targets: Sequence[Target]) -> Made:
    written = asyncio.run(write(server, order, targets))
    return replace(written.report(order, targets, server.model, 0.0), melody_separation=server.melody_separation)


def _check(order: Order, spec: ModelSpec) -> None:
    """Refuse what the model can not do before it is loaded, which takes a while."""
    from api.generations.steps import WINDOW_S, is_windowed

    duration_s = order.request.duration_s
    if duration_s > spec.max_duration_s:
        raise InvalidRequestError(
            f"duration is {duration_s:g} s, {spec.id} makes at most {spec.max_duration_s:g} s", param="duration"
        )
    if order.extend_stride_s is not None and not is_windowed(duration_s, spec):
        raise InvalidRequestError(
            f"--extend-stride is for tracks longer than {WINDOW_S:g} s: leave it out", param="extend_stride"
        )
    _check_style(order, spec)
    if "melody" in order.sounds and not spec.takes_melody:
        raise InvalidRequestError(
            f"{spec.id} can not follow a melody: leave --melody out, or choose a melody model", param="melody"
        )


def _check_style(order: Order, spec: ModelSpec) -> None:
    if "style" in order.sounds and spec.style is None:
        raise InvalidRequestError(
            f"{spec.id} can not take a style: leave --style out, or choose a style model", param="style"
        )
    if "style" not in order.sounds and (order.style_excerpt, order.style_streams) != (None, None):
        raise InvalidRequestError("there is no --style: leave out how it is heard", param="style")
    if order.request.sampling.guidance_beta is not None and not order.sounds.keys() & {"melody", "style"}:
        raise InvalidRequestError(
            "there is no --melody and no --style to weigh the prompt against: leave --guidance-beta out",
            param="guidance_beta",
        )


def _with_sounds(order: Order, spec: ModelSpec) -> Order:
    """With the files that it names, read."""
    melody, continued, style = (order.sounds.get(use) for use in ("melody", "continuation", "style"))
    like = read_sound("style", style, spec.sample_rate) if isinstance(style, Path) else None
    request = replace(
        order.request,
        melody=read_sound("melody", melody, spec.sample_rate) if isinstance(melody, Path) else None,
        continues=read_prompt(continued, spec.sample_rate) if isinstance(continued, Path) else None,
        style=None if like is None else StylePrompt(like, order.style_excerpt, order.style_streams),
    )
    return replace(order, request=request)


def _tell(made: Made) -> None:
    speed = f"{made.generation_s:.1f} s ({made.real_time_factor:.1f}× real time)"
    start = f"first audio after {made.time_to_first_audio_s:.2f} s"
    if len(made.tracks) == 1:
        what, seeds = f"{made.path}: {made.seconds:g} s of music", f"seed {made.seed}"
    else:
        what = f"{made.path} … {made.tracks[-1].path}: {len(made.tracks)} tracks of {made.seconds:g} s"
        seeds = f"seeds {made.seed} … {made.tracks[-1].seed}"
    stderr.print(f"{what} in {speed}, {start}, {seeds}{told(made.melody_separation)}", markup=False)
