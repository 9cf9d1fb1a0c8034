"""Fetches models from the hub, or from its cache where there is no network. No torch here.

huggingface_hub does most of the work, so its own settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. Large
files are taken up where an earlier call stopped (`models.hub_files`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from models.audiocraft.config import references
from models.checkpoint_files import CONFIG, LANGUAGE_MODEL, PATTERNS, CheckpointFiles, Format, has_weights
from models.errors import CheckpointError, TuttiError
from models.hub_files import DamagedFileError, LargeFiles
from models.references import CODEC, STYLE_ENCODER, TEXT_ENCODER, Reference, find

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class HubError(TuttiError):
    """A model could not be fetched; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub of HF_ENDPOINT and the cache below HF_HOME, unless others are given.

    Attributes:
        endpoint: URL.
        cache: folder.
    """

    endpoint: str | None = None
    cache: Path | None = None

    def fetch(self, hub_id: str, revision: str | None = None, wanted: Format | None = None) -> CheckpointFiles:
        """A checkpoint, whole: an audiocraft one with the codec, the text and the style encoder that it names.

        Args:
            revision: branch, tag or commit; None: main.
            wanted: format; None: transformers if its weights are there as safetensors, else audiocraft.

        Raises:
            HubError: the hub can not be reached and the cache has not all of it; there is no such model or revision.
            CheckpointError: what was fetched is no checkpoint.
        """
        if wanted is not Format.AUDIOCRAFT:
            folder = self._snapshot(hub_id, revision, PATTERNS[Format.TRANSFORMERS])
            if has_weights(folder) and (folder / CONFIG).is_file():
                return CheckpointFiles(folder)
            if wanted is not None:
                raise CheckpointError(f"{hub_id} has no checkpoint in transformers format with safetensors weights")
        folder = self._snapshot(hub_id, revision, PATTERNS[Format.AUDIOCRAFT])
        if CheckpointFiles(folder).format is Format.TRANSFORMERS:
            if not (folder / LANGUAGE_MODEL).is_file():
                raise CheckpointError(f"{hub_id} has neither safetensors weights nor a {LANGUAGE_MODEL}")
            raise CheckpointError(
                f"{folder} holds {hub_id} in transformers format too, fetched before, and where both are that one is "
                "taken: leave the format out, or fetch it into a cache of its own (HF_HOME)"
            )
        return self._with_references(folder)

    def _with_references(self, folder: Path) -> CheckpointFiles:
        places = {reference.what: self._find_or_fetch(reference, folder) for reference in references(folder)}
        return CheckpointFiles(folder, places.get(CODEC), places[TEXT_ENCODER], places.get(STYLE_ENCODER))

    def _find_or_fetch(self, reference: Reference, beside: Path) -> Path:
        try:
            return find(reference, beside, None)
        except CheckpointError:
            kind = Format.STYLE_ENCODER if reference.what == STYLE_ENCODER else Format.TRANSFORMERS
            return self._snapshot(reference.hub_ids[-1], None, PATTERNS[kind])

    def _snapshot(self, hub_id: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
        try:
            self._fetch_large(hub_id, revision, patterns)
            found = snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(patterns),
                endpoint=self.endpoint,
                cache_dir=self.cache,
            )
        except DamagedFileError as error:
            raise HubError(f"{hub_id}: {error}; try again") from error
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx2.HTTPError) as error:
            raise HubError(self._explain(hub_id, revision, error)) from error
        return Path(found)

    def _fetch_large(self, hub_id: str, revision: str | None, patterns: tuple[str, ...]) -> None:
        if constants.is_offline_mode():
            return
        try:
            version = revision or constants.DEFAULT_REVISION
            commit = HfApi(endpoint=self.endpoint).model_info(hub_id, revision=version).sha
        except (HfHubHTTPError, httpx2.TransportError):
            return  # huggingface_hub will find all in its cache, or say what is wrong
        if commit is not None:
            LargeFiles(hub_id, commit, self.endpoint, self.cache or Path(constants.HF_HUB_CACHE)).fetch(patterns)

    def _explain(self, hub_id: str, revision: str | None, error: Exception) -> str:
        hub = self.endpoint or constants.ENDPOINT
        if isinstance(error, RevisionNotFoundError):
            return f"{hub_id} has no revision {revision!r} on {hub}"
        if isinstance(error, GatedRepoError):
            return f"{hub_id} is given only to those who accepted its terms on {hub}: do so, and set HF_TOKEN"
        if isinstance(error, RepositoryNotFoundError):
            return f"there is no {hub_id} on {hub}, or it is private: check its name, or set HF_TOKEN"
        if isinstance(error, HFValidationError):
            return f"{hub_id!r} is no id of a model on the hub: {error}"
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        if constants.is_offline_mode() or isinstance(cause, OfflineModeIsEnabled):
            why = "HF_HUB_OFFLINE is set"
        else:
            why = f"{hub} did not answer as it should ({_first_line(cause or error)})"
        return (
            f"{hub_id} can not be fetched: {why}, and the cache {self.cache or constants.HF_HUB_CACHE} has not all of "
            "it. What came so far is kept: try again with a network, or fetch it on another machine with "
            f"`hf download {hub_id}`, copy the folder here, and give its path"
        )


def is_hub_id(source: str) -> bool:
    """Whether it has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(source) is not None


def revision_of(folder: Path) -> str:
    """The commit of a folder in the hub's cache."""
    return folder.name


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
