"""The ingress: the FastAPI application of ``api``, run by Serve, with a client per model behind it.

The application is built in the replica by a plain factory that is named, not imported: ``api`` is above this
package, and a FastAPI object that travelled pickled would not survive it.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.client import GeneratorClient, ServeState
from deployments.composing import composed
from models.catalog import ModelSpec

APP_FACTORY = "api.app:create_app"


def compose(backends: dict[str, GeneratorClient], models: dict[str, ModelSpec]) -> Any:
    """The ASGI application of one gateway."""
    return composed(APP_FACTORY, "SERVICE", backends, models)


@serve.ingress()
class Gateway:
    """Serves HTTP; knows no model and loads no torch.

    Args:
        handles: model id → handle of its deployment.
        models: model id → what it is.
        worker: handle of the workers. Nothing is asked of it: SQL is between the two; but Serve deploys only what
            hangs together.
    """

    def __init__(
        self, handles: dict[str, DeploymentHandle], models: dict[str, ModelSpec], worker: DeploymentHandle
    ) -> None:
        state = ServeState()
        self._backends = {model_id: GeneratorClient(handle, state) for model_id, handle in handles.items()}
        self._models = models
        self._app: Any = None

    def __serve_build_asgi_app__(self) -> Any:
        self._app = compose(self._backends, self._models)
        return self._app

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What was asked for here lately, by model: ``api.generations.arrivals`` says under which names."""
        if self._app is None:
            return {}
        stats: dict[str, float] = self._app.state.services.generations.arrivals.stats()
        return stats
