"""From ``serve_config.yaml`` to a Serve application: ``import_path: deployments.app:build``.

Annotations are real here, not postponed: Serve validates ``args`` with the class that ``build`` is annotated with.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from deployments.gateway import Gateway
from deployments.generator import MusicGenerator
from deployments.preflight import checkpoint_files, describe_models
from deployments.settings import AppArgs, ModelArgs
from deployments.worker import GenerationWorker

GATEWAY_NAME = "Gateway"
WORKER_NAME = "Worker"
# Both mostly wait. Ray's default of a whole core each would leave a small machine without room for one of them, and the
# start would wait for it in silence.
_WAITING = {"num_cpus": 0.1}


def deployment_name(model_id: str) -> str:
    return f"musicgen-{model_id}"


def build(args: AppArgs) -> Application:
    """One deployment per model that is switched on, the workers that feed them, and the gateway before it all.

    Raises:
        CheckpointError: a model is switched on whose checkpoint is missing or broken; nothing is started then.
    """
    models = describe_models(args)
    replicas = {model_id: _bind(model_id, model) for model_id, model in args.enabled.items()}
    slots = {model_id: model.slots for model_id, model in args.enabled.items()}
    places = {model_id: model.places for model_id, model in args.enabled.items()}
    worker = _named(GenerationWorker, WORKER_NAME).bind(replicas, models, slots, places)
    return _named(Gateway, GATEWAY_NAME).bind(replicas, models, worker)


def _named(cls: type[Any], name: str) -> serve.Deployment:
    return serve.deployment(cls).options(name=name, ray_actor_options=_WAITING)


def _bind(model_id: str, model: ModelArgs) -> Application:
    deployment = serve.deployment(MusicGenerator).options(name=deployment_name(model_id), **model.deployment)
    return deployment.bind(model_id, checkpoint_files(model), model.engine)
