"""Finds what an audiocraft checkpoint only names: its codec, its text encoder and what hears a style.

No torch, and no network, here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from models.checkpoint_files import CONFIG, TENSORS, TOKENIZER, has_weights
from models.errors import CheckpointError

CODEC, TEXT_ENCODER, STYLE_ENCODER = "codec", "text encoder", "style encoder"

# Models that moved on the hub: old checkpoints name them as they were.
_ALSO = {name: f"google-t5/{name}" for name in ("t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b")}


@dataclass(frozen=True, slots=True)
class Reference:
    """
    Attributes:
        what: `CODEC`, `TEXT_ENCODER` or `STYLE_ENCODER`.
        name: its id on the hub.
        option: of the command line, by which its folder can be given.
    """

    what: str
    name: str
    option: str

    @property
    def hub_ids(self) -> tuple[str, ...]:
        return (self.name, _ALSO[self.name]) if self.name in _ALSO else (self.name,)


def find(reference: Reference, beside: Path, given: Path | None) -> Path:
    """The folder of what is named: the one given, else one of that name in or beside the checkpoint's, else the hub's
    cache.

    Args:
        beside: the checkpoint's folder.

    Raises:
        CheckpointError: it is nowhere; the message says where it was looked for and what to do.
    """
    if given is not None:
        if not (given / CONFIG).is_file():
            raise CheckpointError(f"{given} is no {reference.what}: it has no {CONFIG}")
        return given
    last = reference.name.rsplit("/", maxsplit=1)[-1]
    places = [beside / last, beside.resolve().parent / last]
    for place in places:
        if (place / CONFIG).is_file():
            return place
    cached = _in_cache(reference)
    if cached is None:
        raise CheckpointError(_nowhere(reference, beside, places))
    return cached


def _in_cache(reference: Reference) -> Path | None:
    """A whole one: others fetch the configuration of such a model alone, or its tokenizer."""
    needs_tokenizer = reference.what == TEXT_ENCODER
    for hub_id in filter(_is_hub_id, reference.hub_ids):
        found = try_to_load_from_cache(hub_id, CONFIG)
        folder = Path(found).parent if isinstance(found, str) else None
        if folder and _is_whole(folder, reference) and (not needs_tokenizer or (folder / TOKENIZER).is_file()):
            return folder
    return None


def _is_whole(folder: Path, reference: Reference) -> bool:
    return has_weights(folder) or (reference.what == STYLE_ENCODER and (folder / TENSORS).is_file())


def _nowhere(reference: Reference, beside: Path, places: list[Path]) -> str:
    looked = ", ".join(str(place) for place in places)
    hub_id = reference.hub_ids[-1]
    fetch = f"fetch it with `hf download {hub_id}`, " if _is_hub_id(hub_id) else ""
    return (
        f"{beside} only names its {reference.what}, {reference.name!r}, which is neither at {looked} nor in the hub's "
        f"cache {constants.HF_HUB_CACHE}: put its folder there, {fetch}or add the model with {reference.option} FOLDER"
    )


def _is_hub_id(name: str) -> bool:
    """Not so where somebody who trained a model of his own named a folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
