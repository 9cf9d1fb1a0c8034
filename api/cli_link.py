"""The way from the command line to a server: one client, its troubles in our words, and files that go up."""

from __future__ import annotations

import re
import uuid

import httpx2

from api.cli_output import CliError, ExitCode, usage_error
from api.cli_retry import Patience, Problem
from api.cli_wav import bad_answer

UPLOAD_PATH = "/api/v1/audio/uploads"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0  # a request may wait in the server's queue before its first byte
_KEY = re.compile(r"[!-~]+")
_UPLOAD_ID = re.compile(r"upl_[0-9a-f]{24}")


class Link:
    """
    Args:
        url: address of the server.
        key: an API key; None: the server knows this machine.
        transport: how bytes travel; None is the network.

    Attributes:
        has_connected: the server was there.

    Raises:
        CliError: the key can not be one; it is not repeated.
    """

    def __init__(self, url: str, key: str | None, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise usage_error("the API key (TUTTI_API_KEY or --key) holds what no key holds: copy it again")
        self.url = url.rstrip("/")
        self.has_connected = False
        self.client = httpx2.AsyncClient(
            base_url=self.url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            trust_env=False,
        )

    def trouble(self, error: httpx2.TransportError | httpx2.InvalidURL) -> Problem:
        """Why a request got no answer."""
        if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
            return Problem(usage_error(f"--url {self.url}: {error}"), is_passing=False, is_refusal=True)
        never_arrived = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        if never_arrived and not self.has_connected:
            message = f"cannot reach {self.url}: is tutti serve running there?"
            return Problem(CliError(message, "unreachable"), is_passing=False, is_refusal=True)
        self.has_connected = True
        reason = str(error) or type(error).__name__
        lost = CliError(f"the connection to {self.url} broke: {reason}", "truncated", ExitCode.FAILED)
        return Problem(lost, is_refusal=never_arrived)

    async def upload(self, data: bytes) -> str:
        """Send a file of audio; the id under which the server has it for a while.

        Raises:
            CliError: the server refused it, or can not be reached.
        """
        headers = {"Content-Type": "application/octet-stream", "Idempotency-Key": uuid.uuid4().hex}
        patience = Patience()
        while True:
            try:
                response = await self.client.post(UPLOAD_PATH, content=data, headers=headers)
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                await patience.wait(self.trouble(error))
            else:
                self.has_connected = True
                if response.is_success:
                    return _upload_id(response)
                await patience.wait(Problem.of(response))


def _upload_id(response: httpx2.Response) -> str:
    try:
        upload_id = str(response.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_answer("it names no upload") from error
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise bad_answer("it names no upload")
    return upload_id
