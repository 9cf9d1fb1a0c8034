"""Model ids and where their checkpoints are. Reads configuration only: no torch, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.catalog_file import Catalog
from models.checkpoint_files import CONFIG, LANGUAGE_MODEL, CheckpointFiles
from models.config import ModelConfig
from models.config_file import read_json
from models.encoder_presence import holds_encoder
from models.errors import CheckpointError, ModelNotFoundError
from models.style_config import StyleConfig
from models.types import LONGEST_TRACK_S, NO_SEPARATION
from models.variants import LICENCE, recognise

TINY, TINY_MELODY = "tiny", "tiny-melody"
_TINY_FOLDER = Path(__file__).resolve().parent / "tiny"
TINY_PATH, TINY_MELODY_PATH = _TINY_FOLDER / "checkpoint", _TINY_FOLDER / "melody"
BUILT_IN = {TINY: TINY_PATH, TINY_MELODY: TINY_MELODY_PATH}
"""The models that come with the repository."""

CARD = "tutti.json"
"""In the checkpoint's folder, if the operator wants to say more: {"licence": …, "description": …}."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a listener may want to know of a model.

    Attributes:
        licence: of the weights; "unknown" where nobody says.
        max_duration_s: of one track.
        sample_rate: Hz.
        frame_rate: codec frames per second.
        num_codebooks: K, over all channels.
        goes_on_from_audio: the checkpoint holds an encoder of audio.
        takes_melody: it can follow the tune of a sound.
        separation: what is taken out of melodies before, unless a request says otherwise; "none" or "htdemucs".
        style: how it hears what its music is to sound like; None: it can not.
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
    goes_on_from_audio: bool = False
    takes_melody: bool = False
    separation: str = NO_SEPARATION
    style: StyleConfig | None = None


def locate(model: str | Path, beside: Path | None = None) -> CheckpointFiles:
    """The checkpoint of a model that is built in, of a name in the catalog, or at a path.

    Args:
        beside: a folder that relative paths may start from; one that leads nowhere there is taken as it is.

    Raises:
        ModelNotFoundError: saying what is there.
        CheckpointError: the catalog is broken.
    """
    if isinstance(model, str) and model in BUILT_IN:
        return _in_folder(BUILT_IN[model], model)
    catalog = Catalog.load()
    if isinstance(model, str) and model in catalog.entries:
        files = catalog.files_of(model)
        if not files.folder.is_dir():
            raise ModelNotFoundError(f"{model!r} is in {catalog.file}, but its folder {files.folder} is not there")
        return files
    inside = None if beside is None else beside / model
    return _in_folder(inside if inside is not None and inside.is_dir() else Path(model), model)


def resolve(model: str | Path) -> Path:
    """The folder of `locate`."""
    return locate(model).folder


def describe(place: str | Path | CheckpointFiles, id: str | None = None) -> ModelSpec:  # noqa: A002 the field's own name
    """What the checkpoint's configuration, its card and the catalog say.

    Args:
        id: how it is asked for; without one, a built-in model's name or the folder's.

    Raises:
        CheckpointError: naming the file or value that is broken.
    """
    files = CheckpointFiles.of(place)
    config = ModelConfig.from_folder(files)
    card = _card(files.folder)
    folder = files.folder.resolve()
    default_id = next((name for name, path in BUILT_IN.items() if path == folder), folder.name)
    return ModelSpec(
        id=id if id is not None else default_id,
        path=files.folder,
        licence=licence_of(files, config),
        description=card.get("description", ""),
        max_duration_s=LONGEST_TRACK_S,
        sample_rate=config.sample_rate,
        channels=config.channels,
        frame_rate=config.frame_rate,
        num_codebooks=config.decoder.num_codebooks,
        goes_on_from_audio=holds_encoder(files),
        takes_melody=config.takes_melody,
        style=config.style,
    )


def licence_of(files: CheckpointFiles, config: ModelConfig) -> str:
    """What the folder's card says, else what was said when it was added to the catalog, else that of the published
    model of this shape: who trained weights of his own in it says so. "unknown" if nobody says.

    Raises:
        CheckpointError: the card or the catalog is broken.
    """
    said = _card(files.folder).get("licence")
    if said is not None:
        return said
    catalog = Catalog.load()
    for name, entry in catalog.entries.items():
        if catalog.files_of(name).folder.resolve() == files.folder.resolve():
            return entry.licence
    return "unknown" if recognise(config) is None else LICENCE


def _in_folder(folder: Path, asked: str | Path) -> CheckpointFiles:
    if (folder / CONFIG).is_file() or (folder / LANGUAGE_MODEL).is_file():
        return CheckpointFiles(folder)
    if folder.is_dir():
        files = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise ModelNotFoundError(f"{folder} is no checkpoint: it has no {CONFIG} and no {LANGUAGE_MODEL}, but {files}")
    raise ModelNotFoundError(
        f"no model {str(asked)!r}: give {' or '.join(map(repr, BUILT_IN))}, a name of `tutti models list`, or a folder "
        "in transformers or audiocraft format"
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
