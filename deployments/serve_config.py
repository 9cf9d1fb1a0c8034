"""Reads ``serve_config.yaml`` and checks all of it, checkpoints included, without starting anything.

Ray is imported late, by ``load_config``: what Ray reads from the environment must be there before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from deployments.local_ray import prepare_environment
from models.errors import TuttiError

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_CONFIG = REPOSITORY / "serve_config.yaml"


class PlatformError(TuttiError):
    """The platform could not be started; the message says what to do."""


def load_config(path: Path | str = DEFAULT_CONFIG) -> ServeDeploySchema:
    """The file as Serve's own schema.

    Raises:
        PlatformError: the file is missing, is not YAML or holds a value that is refused.
        CheckpointError: a model is switched on whose checkpoint is missing or broken.
    """
    prepare_environment()
    path = Path(path)
    try:
        config = _parse(path.read_text())
    except OSError as error:
        raise PlatformError(f"cannot read the Serve config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlatformError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise PlatformError(f"{path}: {_first_complaint(error)}") from error
    if not config.applications:
        raise PlatformError(f"{path}: applications: there is none, so nothing would be served; see {DEFAULT_CONFIG}")
    return config


def _parse(text: str) -> ServeDeploySchema:
    from ray.serve.schema import ServeDeploySchema

    from deployments.demand_settings import check_policy
    from deployments.preflight import describe_models
    from deployments.settings import AppArgs

    config = ServeDeploySchema.model_validate(yaml.safe_load(text))
    for application in config.applications:
        check_policy(application.autoscaling_policy)
        describe_models(AppArgs.model_validate(application.args))
    return config


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
