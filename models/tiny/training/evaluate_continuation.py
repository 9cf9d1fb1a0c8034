"""Is there a seam where music is gone on from? What is heard there, beside clips without one and two that were pasted.

``python -m models.tiny.training.evaluate_continuation --checkpoint models/tiny/checkpoint`` prints the card's table.
Everything is made by the serving engine: first halves, then what follows them with another seed, from their codes and
from their sound, whose codes the encoder finds; and long tracks, which begin a window anew after 30 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.catalog import describe
from models.checkpoint import load_checkpoint
from models.engine.engine import Engine
from models.engine.loader import build_model
from models.engine_config import EngineConfig
from models.errors import TuttiError
from models.tiny.composer.captions import full_prompt
from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.training import analysis, arguments
from models.tiny.training.analysis import Array
from models.tiny.training.evaluate import held_out_pieces
from models.types import AudioPrompt, CodePrompt, GenerationRequest

_CLICK_S, _AROUND_S, _ONSET_S = 0.001, 0.5, 0.02
_WINDOW_S = 30.0
_SAME_TEMPO = 0.03
_COLUMNS = ("click", "onset", "tempo kept", "keys agree", "sound changes")


@dataclass(frozen=True, slots=True)
class Track:
    """Samples float64 [n], channels mixed; pcm and codes as the engine gave them."""

    samples: Array
    pcm: bytes
    codes: bytes


class Player:
    """The serving engine of a checkpoint, on a CPU."""

    def __init__(self, folder: Path) -> None:
        checkpoint = load_checkpoint(folder)
        self.hears = describe(folder).goes_on_from_audio
        self._config = EngineConfig(max_rows=16, max_queue=1000, return_codes=True)
        self._model = build_model(checkpoint, self._config)
        self.channels = checkpoint.config.decoder.audio_channels
        self.num_codebooks = checkpoint.config.decoder.num_codebooks

    def make(self, requests: Sequence[GenerationRequest]) -> list[Track]:
        engine = Engine(self._model, self._config)
        pcm, codes = ({request.request_id: b"" for request in requests} for _ in range(2))
        for request in requests:
            engine.add(engine.encoded(request))
        while engine.has_work:
            for output in engine.step():
                if isinstance(output.news, TuttiError):
                    raise output.news
                pcm[output.request_id] += output.news.pcm
                codes[output.request_id] = output.news.codes or codes[output.request_id]
        return [self._track(pcm[request.request_id], codes[request.request_id]) for request in requests]

    def _track(self, pcm: bytes, codes: bytes) -> Track:
        samples: Array = np.frombuffer(pcm, "<f4").astype(np.float64).reshape(-1, self.channels).mean(1)
        return Track(samples, pcm, codes)


def seam_figures(samples: Array, at_s: float) -> tuple[float, ...]:
    """What is heard where one part of a track follows another.

    Returns:
        click: the largest step between two samples at the seam, over the largest 0.1 % within half a second of it;
        onset: share of the track's moments whose spectrum changes less than the seam's;
        tempo kept: 1 if both parts have the same; keys agree: correlation of the parts' chroma;
        sound changes: difference of the mean mel spectrum before and after, in dB.
    """
    seam = round(at_s * SAMPLE_RATE)
    steps, click, around = np.abs(np.diff(samples)), round(_CLICK_S * SAMPLE_RATE), round(_AROUND_S * SAMPLE_RATE)
    usual = np.quantile(steps[seam - around : seam + around], 0.999) + 1e-9
    flux = analysis.onset_envelope(samples)
    place, reach = round(at_s * 100), round(_ONSET_S * 100)
    here = flux[place - reach : place + reach + 1].max()
    windows = np.lib.stride_tricks.sliding_window_view(flux, 2 * reach + 1).max(1)
    before, after = samples[:seam], samples[seam : seam + seam]
    tempi = analysis.tempo_bpm(before), analysis.tempo_bpm(after)
    chroma = [analysis.key_features(part)[:12] for part in (before, after)]
    mel = [analysis.mel_db(part).mean(0) for part in (samples[seam - around : seam], samples[seam : seam + around])]
    return (
        float(steps[seam - 1 - click : seam - 1 + click].max() / usual),
        float((windows < here).mean()),
        float(abs(tempi[0] / tempi[1] - 1) < _SAME_TEMPO),
        float(np.corrcoef(chroma[0], chroma[1])[0, 1]),
        float(np.abs(mel[0] - mel[1]).mean()),
    )


def kinds(player: Player, prompts: Sequence[str], seconds: float) -> Iterator[tuple[str, float, list[Array]]]:
    """Name, place of the seam in seconds, and tracks."""

    def request(index: int, length: float, continues: CodePrompt | AudioPrompt | None = None) -> GenerationRequest:
        # With the same seed, codes that are gone on from become what they would have become in one go, to the bit.
        seed = index if continues is None else index + len(prompts)
        return GenerationRequest(str(index), prompts[index], length, seed=seed, continues=continues)

    every = range(len(prompts))
    whole = player.make([request(i, 2 * seconds) for i in every])
    yield "made in one go", seconds, [track.samples for track in whole]
    firsts = player.make([request(i, seconds) for i in every])
    exact = [CodePrompt(track.codes, player.num_codebooks) for track in firsts]
    made = player.make([request(i, 2 * seconds, exact[i]) for i in every])
    yield "an earlier track's codes gone on from", seconds, [track.samples for track in made]
    if player.hears:
        sound = [AudioPrompt(track.pcm, player.channels, SAMPLE_RATE) for track in firsts]
        made = player.make([request(i, 2 * seconds, sound[i]) for i in every])
        yield "sound gone on from", seconds, [track.samples for track in made]
    longs = player.make([request(i, _WINDOW_S + seconds) for i in every])
    first = round((_WINDOW_S - seconds) * SAMPLE_RATE)
    yield "a long track's next window", seconds, [track.samples[first:] for track in longs]
    pasted = [
        np.concatenate([one.samples, other.samples]) for one, other in zip(firsts, firsts[1:] + firsts[:1], strict=True)
    ]
    yield "two tracks pasted together", seconds, pasted


def main() -> None:
    args = arguments.parse(__doc__, ["checkpoint"], prompts=40, seconds=8.0, threads=2)
    pieces = [piece for piece in held_out_pieces(4 * args.prompts) if not piece.builds][: args.prompts]
    prompts = [full_prompt(piece, np.random.default_rng([piece.seed, 7])) for piece in pieces]
    print("| | " + " | ".join(_COLUMNS) + " |\n|---|" + "---|" * len(_COLUMNS))
    for name, at_s, tracks in kinds(Player(args.checkpoint), prompts, args.seconds):
        click, onset, tempo, keys, sound = np.mean([seam_figures(track, at_s) for track in tracks], axis=0)
        print(f"| {name} | {click:.2f} | {100 * onset:.0f} % | {100 * tempo:.0f} % | {keys:.2f} | {sound:.1f} dB |")


if __name__ == "__main__":
    main()
