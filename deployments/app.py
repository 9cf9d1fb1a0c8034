"""From ``serve_config.yaml`` to a Serve application: ``import_path: deployments.app:build``.

Annotations are real here, not postponed: Serve validates ``args`` with the class that ``build`` is annotated with.
"""

from ray import serve
from ray.serve import Application

from deployments.gateway import Gateway
from deployments.generator import MusicGenerator
from deployments.preflight import checkpoint_path, describe_models
from deployments.settings import AppArgs, ModelArgs
from deployments.worker import GenerationWorker

GATEWAY_NAME = "Gateway"
WORKER_NAME = "Worker"


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
    worker = serve.deployment(GenerationWorker).options(name=WORKER_NAME).bind(replicas, models, slots)
    return serve.deployment(Gateway).options(name=GATEWAY_NAME).bind(replicas, models, worker)


def _bind(model_id: str, model: ModelArgs) -> Application:
    deployment = serve.deployment(MusicGenerator).options(name=deployment_name(model_id), **model.deployment)
    return deployment.bind(model_id, str(checkpoint_path(model)), model.engine)
