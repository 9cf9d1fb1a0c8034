"""Stored audio: float32 samples, sealed segment by segment, measured once when they come in."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from api.formats.base import FloatSamples
from api.formats.loudness import integrated_loudness
from api.formats.renditions import Renditions
from api.storage import objects as keys
from api.storage import sealed
from api.storage.errors import ObjectMissingError, SealBrokenError
from api.storage.objects import ObjectStore
from api.storage.peaks import measure_peaks
from api.storage.vault import Vault
from models.errors import GenerationFailedError

_SAMPLE_BYTES = 4
_CODES = ".codes"
"""Ends the key of what a track was decoded from: it lies beside the audio, and goes with it."""


class AudioRow(Protocol):
    """What a row of ``tracks`` or ``uploads`` says of its audio; None: there is none yet."""

    @property
    def account_id(self) -> str: ...
    @property
    def object_key(self) -> str | None: ...
    @property
    def channels(self) -> int | None: ...
    @property
    def total_samples(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """What is known of audio once it is stored: the columns of its row.

    Attributes:
        sha256: hex, of the little-endian float32 samples before encryption.
        loudness_lufs: by BS.1770-4; None for silence, for less than 0.4 s, and for uploads.
        peak: largest magnitude of a sample.
        peaks: the waveform, see ``api.storage.peaks``.
    """

    object_key: str
    sha256: str
    total_samples: int
    loudness_lufs: float | None
    peak: float
    peaks: bytes


class AudioLibrary:
    """Puts audio away and gives it back, whole or in parts. All heavy work is done in threads.

    Attributes:
        renditions: finished tracks as files.
    """

    def __init__(self, objects: ObjectStore, vault: Vault) -> None:
        self._objects = objects
        self._vault = vault
        self.renditions = Renditions(self)

    async def store(
        self,
        account_id: str,
        generation_id: str,
        track_id: str,
        fence: int,
        pcm_f32: bytes,
        sample_rate: int,
        channels: int,
        codes: bytes | None = None,
    ) -> StoredAudio:
        """Encrypt and store a finished track. Each lease has an object of its own, so a stale worker harms nothing.

        Args:
            fence: the lease's.
            pcm_f32: little-endian float32, channels interleaved.
            codes: what it was decoded from, for who goes on from it.

        Raises:
            GenerationFailedError: a sample is not a number, or the bytes are no whole samples.
            KeyMissingError: the account was erased meanwhile.
            StorageUnavailableError: nothing was stored; try again.
        """
        key = keys.object_key(account_id, "tracks", generation_id, f"{track_id}-{fence}")
        if codes:  # first: audio that is there is known to whoever must remove it, if this attempt comes to nothing
            await self._seal(account_id, key + _CODES, codes)
        return await self._store(account_id, key, pcm_f32, channels, sample_rate)

    async def store_upload(self, account_id: str, upload_id: str, pcm_f32: bytes, channels: int) -> StoredAudio:
        """Encrypt and store what a client brought; raises as ``store``.

        Its loudness is not measured: nobody asks for it, and gateways are spared the library that does it.
        """
        key = keys.object_key(account_id, "uploads", upload_id)
        return await self._store(account_id, key, pcm_f32, channels, None)

    async def read(self, row: AudioRow, first_sample: int, num_samples: int) -> FloatSamples:
        """Samples ``[num_samples, channels]`` of stored audio; only their segments are fetched and opened.

        Raises:
            ValueError: the range is not within the audio.
            SealBrokenError: the object is not what was stored.
            ObjectMissingError, KeyMissingError, StorageUnavailableError: as named.
        """
        place = _Place.of(row)
        if first_sample < 0 or num_samples < 0 or first_sample + num_samples > place.total_samples:
            raise ValueError(f"samples {first_sample} to {first_sample + num_samples} are not in the audio")
        if num_samples == 0:
            return np.empty((0, place.channels), np.float32)
        return await self._read(place, await self._open(place), first_sample, num_samples)

    async def blocks(self, row: AudioRow, num_samples: int, first_sample: int = 0) -> AsyncIterator[FloatSamples]:
        """The audio from ``first_sample`` to its end, ``num_samples`` at a time; raises as ``read``."""
        place = _Place.of(row)
        cipher = await self._open(place)
        for first in range(first_sample, place.total_samples, num_samples):
            yield await self._read(place, cipher, first, min(num_samples, place.total_samples - first))

    async def codes(self, account_id: str, object_key: str) -> bytes | None:
        """What a track was decoded from, as it was stored; None: nobody stored it.

        Raises:
            SealBrokenError: the object is not what was stored.
            KeyMissingError, StorageUnavailableError: as named.
        """
        key = object_key + _CODES
        try:
            content = await self._objects.get(key)
        except ObjectMissingError:
            return None
        data_key = await self._vault.version(account_id, sealed.key_version(content[: sealed.HEADER_BYTES]))
        return await asyncio.to_thread(sealed.unseal, content, data_key.key, sealed.bound(account_id, key))

    async def delete(self, object_key: str) -> None:
        """Remove a track or an upload, and what lies beside it; what is gone already is fine.

        Raises:
            StorageUnavailableError: try again.
        """
        await self._objects.delete(object_key)
        await self._objects.delete(object_key + _CODES)

    async def _store(
        self, account_id: str, key: str, pcm_f32: bytes, channels: int, loudness_at: int | None
    ) -> StoredAudio:
        stored = await asyncio.to_thread(_measure, key, pcm_f32, channels, loudness_at)
        await self._seal(account_id, key, pcm_f32)
        return stored

    async def _seal(self, account_id: str, key: str, content: bytes) -> None:
        data_key = await self._vault.newest(account_id)
        identity = sealed.bound(account_id, key)
        await self._objects.put(
            key, await asyncio.to_thread(sealed.seal, content, data_key.version, data_key.key, identity)
        )

    async def _open(self, place: _Place) -> sealed.SegmentCipher:
        header, size = await self._objects.get_part(place.key, 0, sealed.HEADER_BYTES)
        if size != sealed.sealed_size(place.size):
            raise SealBrokenError("a stored object has not the size it had")
        key = await self._vault.version(place.account_id, sealed.key_version(header))
        return sealed.SegmentCipher(header, key.key, sealed.bound(place.account_id, place.key))

    async def _read(
        self, place: _Place, cipher: sealed.SegmentCipher, first_sample: int, num_samples: int
    ) -> FloatSamples:
        start, stop = first_sample * place.frame, (first_sample + num_samples) * place.frame
        part, _ = await self._objects.get_part(place.key, *sealed.segment_span(start, stop))
        content = await asyncio.to_thread(sealed.open_span, cipher, part, start, stop, place.size)
        return np.frombuffer(content, "<f4").reshape(-1, place.channels)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where audio lies. ``frame`` and ``size`` in bytes."""

    account_id: str
    key: str
    channels: int
    total_samples: int

    @classmethod
    def of(cls, row: AudioRow) -> _Place:
        if row.object_key is None or row.channels is None or row.total_samples is None:
            raise ObjectMissingError("nothing is stored of this audio")
        return cls(row.account_id, row.object_key, row.channels, row.total_samples)

    @property
    def frame(self) -> int:
        return _SAMPLE_BYTES * self.channels

    @property
    def size(self) -> int:
        return self.total_samples * self.frame


def audio_key(object_key: str) -> str:
    """The key of the audio that an object is or lies beside."""
    return object_key.removesuffix(_CODES)


def _measure(key: str, pcm_f32: bytes, channels: int, loudness_at: int | None) -> StoredAudio:
    """``loudness_at``: the sample rate; None: the loudness is not wanted."""
    if not pcm_f32 or len(pcm_f32) % (_SAMPLE_BYTES * channels):
        raise GenerationFailedError("audio to be stored is not a number of whole samples; this is a bug")
    samples = np.frombuffer(pcm_f32, "<f4").reshape(-1, channels)
    if not np.isfinite(samples).all():
        raise GenerationFailedError("audio to be stored holds samples that are no numbers; this is a bug")
    return StoredAudio(
        object_key=key,
        sha256=hashlib.sha256(pcm_f32).hexdigest(),
        total_samples=len(samples),
        loudness_lufs=integrated_loudness(samples, loudness_at) if loudness_at is not None else None,
        peak=float(np.abs(samples).max()),
        peaks=measure_peaks(samples),
    )
