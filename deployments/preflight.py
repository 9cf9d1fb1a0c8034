"""Looks at a checkpoint without torch, so that a missing or cut file is named before any replica starts."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deployments.settings import AppArgs, ModelArgs
from models.catalog import ModelSpec, describe, locate
from models.checkpoint_files import CheckpointFiles, Format, parts_of
from models.config import MAX_DURATION_S
from models.errors import CheckpointError, ModelNotFoundError
from models.separator_file import SeparatorFile
from models.types import HTDEMUCS, NO_SEPARATION

REPOSITORY = Path(__file__).resolve().parents[1]


def describe_models(args: AppArgs) -> dict[str, ModelSpec]:
    """Model id → what it is, for every size that is switched on.

    Raises:
        CheckpointError: naming the model, its checkpoint and what is wrong with it.
    """
    return {model_id: _describe(model_id, model) for model_id, model in args.enabled.items()}


def checkpoint_files(model: ModelArgs) -> CheckpointFiles:
    """Where the model's checkpoint lies: "tiny", a name of the catalog, or a folder, relative ones in the repository.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: the catalog is broken.
    """
    return locate(model.checkpoint or "", beside=REPOSITORY)


def _describe(model_id: str, model: ModelArgs) -> ModelSpec:
    try:
        files = checkpoint_files(model)
        spec = describe(files, model_id)
        for folder, kind in parts_of(files):
            if kind is Format.TRANSFORMERS:  # the other format's files were looked into to describe the model
                _check_weights(folder)
        _check_drain(model)
        spec = replace(spec, separation=_separation(model, spec))
    except (CheckpointError, ModelNotFoundError) as error:
        raise CheckpointError(
            f"model {model_id!r} is switched on, but cannot be served from {model.checkpoint!r}: {error}. "
            f"Mend the checkpoint, or set enabled: false for {model_id} in the Serve config."
        ) from error
    return spec


def _separation(model: ModelArgs, spec: ModelSpec) -> str:
    """What the replicas take out of melodies; their extra and its weights are looked at here, before they start."""
    separator = model.engine_config().separator
    if separator is None:
        return NO_SEPARATION
    if not spec.takes_melody:
        raise CheckpointError("separator is set in its engine, but it can not follow a melody: leave separator out")
    SeparatorFile.open(separator)
    return HTDEMUCS


def _check_drain(model: ModelArgs) -> None:
    """A replica that stops plays on for one window at least; a longer track that it cuts is made elsewhere."""
    grace_s = float(model.deployment.get("graceful_shutdown_timeout_s", 20.0))  # Serve's own default
    if grace_s <= MAX_DURATION_S:
        raise CheckpointError(
            f"graceful_shutdown_timeout_s is {grace_s:g} s, which would cut streams of up to "
            f"{MAX_DURATION_S:g} s short when a replica is stopped: give it more"
        )


def _check_weights(folder: Path) -> None:
    """Every safetensors file is there and as long as its own header says (a cut download is not)."""
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index.name} is not a safetensors index: {error}") from error
    for name in sorted(names):
        _check_file(folder / name)


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file.name} is missing in {file.parent}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if header_bytes > size - 8:
            raise CheckpointError(f"{file} is not a safetensors file, or was cut short")
        try:
            header: Mapping[str, Mapping[str, list[int]]] = json.loads(stream.read(header_bytes))
        except ValueError as error:
            raise CheckpointError(f"{file} has no readable safetensors header") from error
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + header_bytes + max(ends, default=0)
    if size != expected:
        raise CheckpointError(f"{file} has {size} bytes, its header says {expected}: copy it again")
