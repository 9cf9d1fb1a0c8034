"""Large files of a hub, taken up where an earlier call stopped. No torch here.

huggingface_hub keeps nothing of a file that did not come whole. So the large ones are fetched here, into the place in
its cache where it looks first (``models--OWNER--NAME/blobs/ETAG``, see its guide "Understand caching"), and a part of
one stays beside as ``ETAG.partial``. The hub's etag of a large file is its sha256: what came is compared with it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import WeakFileLock, tqdm  # type: ignore[attr-defined]

logger = logging.getLogger(__name__)

LARGE_BYTES = 32 << 20
"""Smaller files are left to huggingface_hub: fetching one again costs seconds."""

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between attempts in which nothing came; the count begins anew when something did."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = 30.0


class DamagedFileError(Exception):
    """What came is not what the hub says it is; the part that was kept is gone."""


@dataclass(frozen=True, slots=True)
class LargeFiles:
    """Those of one version of a model.

    Attributes:
        hub_id: OWNER/NAME.
        commit: of the version.
        endpoint: URL; None for HF_ENDPOINT.
        cache: the hub's cache.
    """

    hub_id: str
    commit: str
    endpoint: str | None
    cache: Path

    def fetch(self, patterns: tuple[str, ...]) -> None:
        """Those that fit the patterns and are not in the cache yet.

        Raises:
            httpx2.HTTPError: the line is cut again and again, or the hub refuses; what came so far is kept.
            DamagedFileError: a file came otherwise than its checksum says.
        """
        tree = HfApi(endpoint=self.endpoint).list_repo_tree(self.hub_id, revision=self.commit, recursive=True)
        large = [entry.path for entry in tree if isinstance(entry, RepoFile) and entry.size >= LARGE_BYTES]
        for name in large:
            wanted = any(fnmatchcase(name, pattern) for pattern in patterns)
            if wanted and not (self._folder / "snapshots" / self.commit / name).exists():
                self._fetch(name)

    @property
    def _folder(self) -> Path:
        return self.cache / f"models--{self.hub_id.replace('/', '--')}"

    def _fetch(self, name: str) -> None:
        url = hf_hub_url(self.hub_id, name, revision=self.commit, endpoint=self.endpoint)
        about = get_hf_file_metadata(url, endpoint=self.endpoint, retry_on_errors=True)
        if about.etag is None or about.size is None:
            return  # an unusual hub: huggingface_hub will say what it makes of it
        blob = self._folder / "blobs" / about.etag
        blob.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(blob.with_suffix(".lock")):
            if not blob.exists():
                partial = blob.with_suffix(".partial")
                _download(url, partial, about.size, name)
                _check(partial, about.etag, name)
                partial.replace(blob)


def _download(url: str, partial: Path, size: int, name: str) -> None:
    """Append to what is there until it is whole."""
    delays = iter(RETRY_DELAYS_S)
    have = partial.stat().st_size if partial.exists() else 0
    with tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=name) as bar:  # type: ignore[no-untyped-call]
        while have < size:
            try:
                _append(url, partial, have, bar)
                if partial.stat().st_size <= have:
                    raise httpx2.RemoteProtocolError("it ended before anything new came")
            except httpx2.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                now = partial.stat().st_size if partial.exists() else 0
                delays = iter(RETRY_DELAYS_S) if now > have else delays
                delay = next(delays, None)
                if delay is None:
                    raise
                logger.warning("the line was cut while %s came (%s): again in %g s", name, reason, delay)
                time.sleep(delay)
            have = partial.stat().st_size if partial.exists() else 0


def _append(url: str, partial: Path, have: int, bar: tqdm) -> None:
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    token = get_token()
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"  # httpx drops it where it is sent on to another host
    with (
        httpx2.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        response.raise_for_status()
        resumes = response.status_code == httpx2.codes.PARTIAL_CONTENT
        if have and not resumes:
            bar.update(-have)  # it begins anew: this hub does not know how to go on
        with partial.open("ab" if resumes else "wb") as file:
            for piece in response.iter_raw():
                file.write(piece)
                bar.update(len(piece))


def _check(partial: Path, etag: str, name: str) -> None:
    """
    Raises:
        DamagedFileError: its checksum is another.
    """
    if not _SHA256.fullmatch(etag):
        return
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != etag:
        partial.unlink()
        raise DamagedFileError(f"{name} came damaged: sha256 {found} instead of {etag}")
