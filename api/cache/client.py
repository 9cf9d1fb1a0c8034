"""The connection to Valkey or Redis, which holds only what may be lost."""

from __future__ import annotations

from typing import Any, Literal, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

MAX_CONNECTIONS = 32
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
POOL_TIMEOUT_S = 5.0  # how long a command waits for a free connection before it fails
RETRIES = 3
_BACKOFF = ExponentialBackoff(base=0.05, cap=0.4)  # 0.1, 0.2 and 0.4 s: longer than a restart takes


class Cache:
    """A pool of connections and the prefix of every key.

    A command whose connection breaks is sent again, up to three times within 0.7 s, so that a restart of the server
    goes by unnoticed; a command may therefore be carried out twice, and fails only after 0.7 s when there is no server.
    What blocks (XREAD BLOCK) must ask for less than ``COMMAND_TIMEOUT_S``. Values are bytes.

    Attributes:
        redis: the client. Its errors are ``redis.exceptions.RedisError``; whoever uses it goes on without it.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.redis = redis
        self._prefix = prefix

    @classmethod
    def connect(cls, url: str, prefix: str = "tutti:") -> Self:
        """Make the pool; the first command opens the first connection.

        Args:
            url: redis://[:password@]host:port/db, rediss:// or unix://.
            prefix: of every key and channel, so that several installations may share one server.

        Raises:
            ValueError: the URL is none of these.
        """
        # A socket of the file system has nothing to keep alive, and its connections do not know the option.
        alive: dict[str, Any] = {} if url.startswith("unix://") else {"socket_keepalive": True}
        pool = BlockingConnectionPool.from_url(
            url,
            # Redis's default pool raises at the connection too many; this one lets the command wait.
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=COMMAND_TIMEOUT_S,
            # RESP2: one shape of replies from every server, old Redis included, and no handshake for push messages,
            # which nothing here uses.
            protocol=2,
            retry=Retry(_BACKOFF, RETRIES),
            client_name="tutti",
            **alive,
        )
        return cls(Redis.from_pool(pool), prefix)

    def key(self, *parts: str | int) -> str:
        """The name of a key or channel: the prefix and the parts, with colons between them."""
        return self._prefix + ":".join(map(str, parts))

    async def check(self) -> Literal[True] | str:
        """True when the server answers; otherwise what is wrong and what to do."""
        try:
            await self.redis.ping()
        except (RedisError, OSError) as error:
            return f"the cache does not answer ({error}): is it running, and is TUTTI_REDIS_URL right?"
        return True

    async def close(self) -> None:
        """Close every connection; may be called more than once."""
        await self.redis.aclose()
