"""Model ids and where their checkpoints are. Reads configuration only: no torch, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.config import ModelConfig
from models.config_file import read_json
from models.errors import CheckpointError, ModelNotFoundError

TINY = "tiny"
TINY_PATH = Path(__file__).resolve().parent / "tiny" / "checkpoint"

CARD = "tutti.json"
"""Beside ``config.json``, if the operator wants to say more: {"licence": …, "description": …}."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a listener may want to know of a model.

    Attributes:
        licence: of the weights; "unknown" where nobody says.
        sample_rate: Hz.
        frame_rate: codec frames per second.
        num_codebooks: K, over all channels.
    """

    id: str
    path: Path
    licence: str
    description: str
    max_duration_s: float
    sample_rate: int
    channels: int
    frame_rate: int
    num_codebooks: int


def resolve(model: str | Path) -> Path:
    """Where the checkpoint of "tiny", or at a path, lies.

    Raises:
        ModelNotFoundError: saying what is there.
    """
    folder = TINY_PATH if model == TINY else Path(model)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        files = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise ModelNotFoundError(f"{folder} is no checkpoint: it has no config.json, but {files}")
    raise ModelNotFoundError(f"no model {str(model)!r}: give '{TINY}' or a folder in transformers format")


def describe(path: str | Path, id: str | None = None) -> ModelSpec:  # noqa: A002 the field's own name
    """What the checkpoint's configuration and its card say.

    Args:
        id: how it is asked for; without one, "tiny" or the folder's name.

    Raises:
        CheckpointError: naming the file or value that is broken.
    """
    folder = Path(path)
    config = ModelConfig.from_folder(folder)
    card = _card(folder)
    default_id = TINY if folder.resolve() == TINY_PATH else folder.resolve().name
    return ModelSpec(
        id=id if id is not None else default_id,
        path=folder,
        licence=card.get("licence", "unknown"),
        description=card.get("description", ""),
        max_duration_s=config.max_duration_s,
        sample_rate=config.sample_rate,
        channels=config.channels,
        frame_rate=config.frame_rate,
        num_codebooks=config.decoder.num_codebooks,
    )


def _card(folder: Path) -> dict[str, str]:
    file = folder / CARD
    if not file.exists():
        return {}
    card = read_json(file)
    for key, value in card.items():
        if key not in ("licence", "description") or not isinstance(value, str):
            raise CheckpointError(f"{file}: {key} = {value!r}, but it holds only the texts 'licence' and 'description'")
    return card
