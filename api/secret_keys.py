"""The secrets of one installation: given by the operator in production, made once and kept in a file in development."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MASTER_KEY_BYTES = 32
MIN_SECRET_CHARACTERS = 32
FILE = "secrets.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What signs and what encrypts; neither shows in ``repr``.

    Attributes:
        secret_key: of which every signing key is derived.
        master_keys: id → 32 bytes. The first one encrypts what is new, the others still open what is old.
        previous_secret_keys: those that ``secret_key`` replaced, the newest first; what they signed is still accepted.
    """

    secret_key: str = field(repr=False)
    master_keys: Mapping[str, bytes] = field(repr=False)
    previous_secret_keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The one that signs what is new, then those that only verify."""
        return (self.secret_key, *self.previous_secret_keys)


def parse_master_keys(text: str) -> dict[str, bytes]:
    """``id:base64,id:base64``, the newest first.

    Raises:
        ValueError: saying which entry is wrong, never what it holds.
    """
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), start=1):
        name, colon, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not colon or not 0 < len(name) <= 64 or len(key) != MASTER_KEY_BYTES:
            raise ValueError(
                f"key {number} is not an id of at most 64 characters, a colon and {MASTER_KEY_BYTES} bytes in base64: "
                f"make one with: openssl rand -base64 {MASTER_KEY_BYTES}"
            )
        if name in keys:
            raise ValueError(f"key {number} has the id of another one: give each an id of its own")
        keys[name] = key
    return keys


def parse_previous_secret_keys(text: str) -> tuple[str, ...]:
    """``key,key``, the newest first; empty text: none.

    Raises:
        ValueError: saying which entry is wrong, never what it holds.
    """
    keys = tuple(text.split(",")) if text else ()
    for number, key in enumerate(keys, start=1):
        # Blanks would be part of the key: every signature made with it would be refused without a word.
        if len(key) < MIN_SECRET_CHARACTERS or key != key.strip():
            raise ValueError(
                f"key {number} is shorter than {MIN_SECRET_CHARACTERS} characters or has a blank beside it: write what "
                "TUTTI_SECRET_KEY was before, the newest first, with commas and nothing else between"
            )
        if key in keys[: number - 1]:
            raise ValueError(f"key {number} stands there twice: take it out")
    return keys


def complete_secrets(
    secret_key: str | None, master_keys: str | None, previous_secret_keys: str, folder: Path
) -> Secrets:
    """What was given, and for what was not, what development keeps in this folder: made at the first call.

    Raises:
        ValueError: something given cannot be read; or the folder is needed and cannot be written, or holds damage.
    """
    masters = None if master_keys is None else parse_master_keys(master_keys)
    previous = parse_previous_secret_keys(previous_secret_keys)
    if secret_key is not None and masters is not None:
        return Secrets(secret_key, masters, previous)
    try:
        made = development_secrets(folder)
    except OSError as error:
        told = f"development secrets cannot be kept in {folder} ({error.strerror})"
        raise ValueError(f"{told}: set TUTTI_DATA_DIR to a folder that can be written") from error
    return Secrets(secret_key or made.secret_key, masters or made.master_keys, previous)


def development_secret_key(folder: Path) -> str | None:
    """The secret that development made in this folder; None: it made none."""
    try:
        return str(json.loads((folder / FILE).read_text())["secret_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def development_secrets(folder: Path) -> Secrets:
    """The secrets of this folder, made at the first call; any number of processes may be the first at once.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the file is damaged.
    """
    file = folder / FILE
    if not file.exists():
        _create(file)
    try:
        found = json.loads(file.read_text())
        return Secrets(str(found["secret_key"]), parse_master_keys(found["master_keys"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged: bring it back from a copy. Without it the audio in {folder} stays encrypted; delete "
            "the folder to start anew"
        ) from error


def _create(file: Path) -> None:
    """The whole file or none, and never over another one."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    master_key = base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()
    content = {"secret_key": secrets.token_urlsafe(32), "master_keys": f"development:{master_key}"}
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as writing:
            json.dump(content, writing)
            writing.flush()
            os.fsync(writing.fileno())
        os.link(draft, file)  # unlike a rename, this fails when somebody else was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
