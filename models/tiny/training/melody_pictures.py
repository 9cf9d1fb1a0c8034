"""Spectrograms of a tune and of what the stereo model makes of it, side by side, for the model card.

``python -m models.tiny.training.melody_pictures --checkpoint models/tiny/melody --out models/tiny --piece 2``
It needs matplotlib.
"""

from __future__ import annotations

import numpy as np

from models.engine.engine import Engine
from models.engine.loader import load_model
from models.engine_config import EngineConfig
from models.tiny.composer.captions import full_prompt
from models.tiny.composer.instruments import SAMPLE_RATE
from models.tiny.composer.stereo import CHANNELS, tune
from models.tiny.training import arguments
from models.tiny.training.analysis import Array
from models.tiny.training.evaluate import held_out_pieces
from models.tiny.training.melody_data import FULL_CLIP
from models.tiny.training.pictures import draw
from models.types import AudioPrompt, GenerationRequest


def sides(engine: Engine, prompt: str, seconds: float, melody: AudioPrompt | None) -> Array:
    """One clip through the serving engine: float64 [2, samples]."""
    request = GenerationRequest("picture", prompt, seconds, seed=0, melody=melody)
    pcm = b"".join(chunk.pcm for chunk in engine.generate(request))
    heard: Array = np.frombuffer(pcm, "<f4").astype(np.float64).reshape(-1, CHANNELS).T
    return heard


def main() -> None:
    args = arguments.parse(__doc__, ["checkpoint", "out"], piece=0, seconds=10.0)
    found = [each for each in held_out_pieces(200) if each.lead and each.drums == "none" and not each.builds]
    piece = found[args.piece]
    prompt = f"{full_prompt(piece, np.random.default_rng([piece.seed, 7]))}, with a melody"
    song = tune(piece, FULL_CLIP, "strings")
    config = EngineConfig(weights="int8")
    engine = Engine(load_model(args.checkpoint, config), config)
    told = sides(engine, prompt, args.seconds, AudioPrompt(song.astype("<f4").tobytes(), 1, SAMPLE_RATE))
    untold = sides(engine, prompt, args.seconds, None)
    clips = {
        "the tune that was given, on strings": song[: int(args.seconds * SAMPLE_RATE)],
        "right side, with that tune": told[1],
        "left side, with that tune": told[0],
        "right side, without a tune": untold[1],
    }
    draw(clips, args.out / "melody.png", columns=2)


if __name__ == "__main__":
    main()
