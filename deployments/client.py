"""The ingress's side of a Serve handle: the same ``generate`` as everywhere, with every path ending in a cancel.

Leaving an ``async for`` over a Serve response does not stop the replica: without the cancel in ``finally`` an
aborted request would keep its rows until its last frame.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]  # comes with ray[serve]
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ServeStatus

from models.errors import EngineOverloadedError, GenerationFailedError, ReplicaLostError, TuttiError
from models.types import AudioChunk, GenerationRequest

logger = logging.getLogger("tutti.client")

DEFAULT_RETRY_AFTER_S = 5.0
STATE_MAX_AGE_S = 1.0
"""Serve's controller looks at its replicas about as often, and answers for all applications at once."""
# Of a deployment that takes requests, be it before a replica is there: it scales up from zero, or down to it.
_SERVED = ("HEALTHY", "UPSCALING", "DOWNSCALING")
# Everything Serve, Ray or its gRPC transport raise for a replica that cannot be reached or went away.
_TRANSPORT_ERRORS = (RayError, RayServeException, grpc.RpcError)


class ServeState:
    """What Serve says of all deployments: asked for at most once a second, for all models of a process together.

    Args:
        ask: a blocking call for Serve's status.
    """

    def __init__(self, ask: Callable[[], ServeStatus] = serve.status) -> None:
        self._ask = ask
        self._asked_at = -math.inf
        self._answer: asyncio.Future[ServeStatus] | None = None

    async def read(self) -> ServeStatus:
        """As it was at most a second ago, or as it is now; whoever asks meanwhile waits for the same answer.

        Raises:
            Exception: as the call does, to all who asked within that second.
        """
        now = asyncio.get_running_loop().time()
        if self._answer is None or (self._answer.done() and now - self._asked_at >= STATE_MAX_AGE_S):
            self._asked_at = now
            self._answer = asyncio.ensure_future(asyncio.to_thread(self._ask))
        return await asyncio.shield(self._answer)  # who leaves takes it from nobody


class GeneratorClient:
    """Calls one model's deployment. Ready to be used by the API wherever an engine could be.

    Args:
        handle: of the model's deployment.
        state: of all models of this process; left out: one of its own.
    """

    def __init__(self, handle: DeploymentHandle, state: ServeState | None = None) -> None:
        self._state = state or ServeState()
        self._name: str = handle.deployment_id.name
        self._app: str = handle.deployment_id.app_name
        # gRPC instead of actor calls: half the cost per chunk, and cancels that do not get lost in a burst.
        self._generate = handle.options(stream=True, method_name="generate", _by_reference=False)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[AudioChunk]:
        """Stream the request's audio from a replica; closing the iterator frees the replica's rows.

        Raises:
            TuttiError: the engine's own typed errors; EngineOverloadedError if the queue before the replicas is
                full; ReplicaLostError if the replica went away before the end marker.
        """
        response: Any = self._generate.remote(request)
        del request  # it may have 15 MB of sound, which is on its way
        ended = False
        try:
            async for chunk in response:
                ended = chunk.is_last
                yield chunk
        except RequestCancelledError:
            raise asyncio.CancelledError from None  # Serve cancels calls below a cancelled request by itself, too
        except Exception as error:
            raise translate(error, self._name) from error
        finally:
            response.cancel()
        if not ended:
            raise ReplicaLostError(f"the stream of {self._name} ended before its last piece")

    async def ready(self) -> bool | str:
        """True if a request would be served, by a replica that is there or is started for it; otherwise why not."""
        try:
            deployment = await self._deployment()
        except _TRANSPORT_ERRORS as error:
            return f"the Serve controller does not answer: {error}"
        if deployment is None:
            return f"{self._name} is not deployed"
        if deployment.replica_states.get("RUNNING", 0) > 0 or deployment.status in _SERVED:
            return True
        return f"{self._name} is {deployment.status}: {deployment.message or 'its replicas are starting'}"

    async def replicas(self) -> int:
        """How many replicas are loaded and serve now; 0 as well when nobody can tell."""
        try:
            deployment = await self._deployment()
        except _TRANSPORT_ERRORS:
            return 0
        return 0 if deployment is None else int(deployment.replica_states.get("RUNNING", 0))

    async def _deployment(self) -> Any:
        """The deployment's status, None if there is none."""
        app = (await self._state.read()).applications.get(self._app)
        return app.deployments.get(self._name) if app else None


def translate(error: Exception, name: str) -> TuttiError:
    """The project's own error for what a Serve handle raised, whatever it came wrapped in."""
    for cause in _causes(error):
        if isinstance(cause, TuttiError) and not isinstance(cause, RayTaskError):
            return cause
    if isinstance(error, BackPressureError):
        retry_after_s = error.retry_after_s or DEFAULT_RETRY_AFTER_S
        return EngineOverloadedError(f"every place in {name} is taken and its queue is full", retry_after_s)
    if isinstance(error, _TRANSPORT_ERRORS) and not isinstance(error, RayTaskError):
        return ReplicaLostError(f"the replica of {name} went away or cannot be reached")
    logger.error("unexpected error in %s", name, exc_info=error)
    return GenerationFailedError(f"{name} failed unexpectedly, its log says why")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: Ray raises a class made of RayTaskError and the cause's class."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = getattr(seen, "cause", None)
