"""Write the stereo and melody model as a transformers folder, float16 on disk, without the codec's encoder.

``python -m models.tiny.training.export_melody --runs runs/tiny --state runs/tiny/melody-finished.pt --out DIR``
The encoder would be a quarter of the file. A melody needs none, and an earlier track goes on from its own codes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import MusicgenMelodyConfig, MusicgenMelodyForConditionalGeneration

from models.tiny.training import arguments, checkpointing
from models.tiny.training.export import fill_codec, fill_decoder, generation_config, write_beside
from models.tiny.training.fewer_codes import FEWER, FewerCodes
from models.tiny.training.melody_model import melody_decoder_config
from models.tiny.training.train_codec import codec_config
from models.tiny.training.train_text import text_config

CARD = {
    "licence": "Apache-2.0",
    "description": (
        "Small stereo MusicGen that follows a melody, trained on a composer's own music: six timbres, twelve keys, "
        "five tempi, drums or none; harmony on the left, lead on the right."
    ),
}


@torch.no_grad()
def build_model(runs: Path, state: Path) -> MusicgenMelodyForConditionalGeneration:
    """The trained parts as transformers' own model, float32; of the decoder the mean over its last steps."""
    config = MusicgenMelodyConfig(
        text_encoder=text_config().to_dict(), audio_encoder=codec_config(FEWER).to_dict(),
        decoder=melody_decoder_config().to_dict(),
    )  # fmt: skip
    model = MusicgenMelodyForConditionalGeneration(config)
    fill_codec(model.audio_encoder, runs, FewerCodes.load(runs / "fewer_codes.npz").kept)
    fill_decoder(model, checkpointing.load_required(state)["mean"], state)
    return model.eval()


def export(runs: Path, state: Path, out: Path) -> None:
    """Write the folder."""
    model = build_model(runs, state)
    model.generation_config = generation_config(FEWER)
    model.config.decoder.decoder_start_token_id = FEWER
    kept = {name: v for name, v in model.half().state_dict().items() if not name.startswith("audio_encoder.encoder.")}
    model.save_pretrained(out, state_dict=kept)
    write_beside(out, runs, CARD)


def main() -> None:
    args = arguments.parse(__doc__, ["runs", "state", "out"])
    export(args.runs, args.state, args.out)


if __name__ == "__main__":
    main()
