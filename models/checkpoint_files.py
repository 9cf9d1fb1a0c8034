"""Which files a checkpoint consists of, and in which of the two formats. No torch here.

    transformers   config.json, model.safetensors (or its index and shards), tokenizer.json …
    audiocraft     state_dict.bin, compression_state_dict.bin; codec and text encoder may lie elsewhere

audiocraft's files only name the codec and the text encoder ("facebook/encodec_32khz", "t5-base"), so these have folders
of their own, in transformers format.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
EXTRACTOR = "preprocessor_config.json"  # how transformers hears a melody
LANGUAGE_MODEL = "state_dict.bin"
COMPRESSION_MODEL = "compression_state_dict.bin"
TENSORS = "pytorch_model.bin"  # as MERT is published


class Format(StrEnum):
    TRANSFORMERS = "transformers"
    AUDIOCRAFT = "audiocraft"
    STYLE_ENCODER = "style encoder"
    """Of no checkpoint, but of a part of one: transformers' names, maybe in a file of ``torch.save``."""


PATTERNS = {
    Format.TRANSFORMERS: (CONFIG, "generation_config.json", EXTRACTOR, "model*.safetensors", INDEX, "tokenizer*.json"),
    Format.AUDIOCRAFT: (LANGUAGE_MODEL, COMPRESSION_MODEL),
    Format.STYLE_ENCODER: (CONFIG, "model*.safetensors", INDEX, TENSORS),
}
"""Names of the files that matter; everything else in a folder is neither downloaded nor hashed."""


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """Where a checkpoint lies.

    Attributes:
        codec: folder of the codec, for the audiocraft format; None: looked for (`models.references`).
        text_encoder: folder of the text encoder, likewise.
        style_encoder: folder of what hears a style (MERT), likewise.
    """

    folder: Path
    codec: Path | None = None
    text_encoder: Path | None = None
    style_encoder: Path | None = None

    @classmethod
    def of(cls, place: str | Path | CheckpointFiles) -> CheckpointFiles:
        """What is given, or the checkpoint of a folder that needs no more to be said."""
        return place if isinstance(place, CheckpointFiles) else cls(Path(place))

    @property
    def format(self) -> Format:
        """transformers, where both lie in one folder with weights: it holds codec and text encoder as well.

        Raises:
            CheckpointError: the folder is neither.
        """
        if not self.folder.is_dir():
            raise CheckpointError(
                f"{self.folder} is not a folder: a checkpoint is a folder in transformers or audiocraft format"
            )
        has_language_model = (self.folder / LANGUAGE_MODEL).is_file()
        if (self.folder / CONFIG).is_file() and (has_weights(self.folder) or not has_language_model):
            return Format.TRANSFORMERS
        if has_language_model:
            return Format.AUDIOCRAFT
        raise CheckpointError(
            f"{self.folder / CONFIG} is missing, and so is {LANGUAGE_MODEL}: a checkpoint is a folder in transformers "
            "or audiocraft format"
        )


def has_weights(folder: Path) -> bool:
    """Whether a folder in transformers format has weights that can be read without running code."""
    return any((folder / name).is_file() for name in (WEIGHTS, INDEX))


def parts_of(files: CheckpointFiles) -> tuple[tuple[Path, Format], ...]:
    """Every folder that a checkpoint consists of, and the format of what is meant in it.

    Raises:
        CheckpointError: the folder is no checkpoint, or its parts are nowhere.
    """
    if files.format is Format.TRANSFORMERS:
        return ((files.folder, Format.TRANSFORMERS),)
    from models.audiocraft.config import read_audiocraft

    model = read_audiocraft(files)
    others = [folder for folder in (model.codec, model.text_encoder) if folder is not None]
    parts = [(files.folder, Format.AUDIOCRAFT), *((folder, Format.TRANSFORMERS) for folder in others)]
    if model.style_encoder is not None:
        parts.append((model.style_encoder, Format.STYLE_ENCODER))
    return tuple(parts)


def files_that_matter(folder: Path, format: Format) -> list[Path]:  # noqa: A002 the field's own name
    """In order of their names; a folder of a codec or text encoder alone is in transformers format."""
    found = {file for pattern in PATTERNS[format] for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)
