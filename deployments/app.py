"""From ``serve_config.yaml`` to a Serve application: ``import_path: deployments.app:build``.

Annotations are real here, not postponed: Serve validates ``args`` with the class that ``build`` is annotated with.
"""

from ray import serve
from ray.serve import Application

from deployments.gateway import Gateway
from deployments.generator import MusicGenerator
from deployments.preflight import checkpoint_path, describe_models
from deployments.settings import AppArgs, ModelArgs

GATEWAY_NAME = "Gateway"


def deployment_name(model_id: str) -> str:
    return f"musicgen-{model_id}"


def build(args: AppArgs) -> Application:
    """One deployment per model that is switched on, and the gateway before them.

    Raises:
        CheckpointError: a model is switched on whose checkpoint is missing or broken; nothing is started then.
    """
    models = describe_models(args)
    replicas = {model_id: _bind(model_id, model) for model_id, model in args.enabled.items()}
    return serve.deployment(Gateway).options(name=GATEWAY_NAME).bind(replicas, models)


def _bind(model_id: str, model: ModelArgs) -> Application:
    deployment = serve.deployment(MusicGenerator).options(name=deployment_name(model_id), **model.deployment)
    return deployment.bind(model_id, str(checkpoint_path(model)), model.engine)
