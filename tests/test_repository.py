"""What holds for the repository as a whole: who imports whom, what is pinned, what no tracked file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.doctor import TORCH_VERSION
from models.catalog import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("api", "autoscaling", "dashboards", "deploy", "deployments", "models", "benchmarks")
MAX_TINY_BYTES = 40_000_000  # both checkpoints together
# Built from parts, so that this file does not hold what it looks for.
FOLDERS = ("/" + "work", "/" + "root", "/" + "home/[a-z]+", "/" + "opt/pypi", "/" + "Users/[a-z]+")
HOSTS = (r"pypi\." + "org", "python" + "hosted", r"download\." + "pytorch", "registry" + r"\.npmjs")
FORBIDDEN = [re.compile(rf"(?<![\w.]){folder}/") for folder in FOLDERS] + [re.compile(host) for host in HOSTS]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def _pins(lock: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def _project() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = dict(project["optional-dependencies"])
    dev = extras.pop("dev")
    return {"run": project["dependencies"], "dev": dev, "extras": [line for lines in extras.values() for line in lines]}


def test_import_contracts_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        # What the gateway's process and Ray's controller import, and the command line until it needs an engine.
        ("api.app, deployments.app, deployments.gateway, deployments.platform", "torch, transformers"),
        ("api.cli", "torch, transformers, ray, fastapi"),
        ("models.types, models.errors, models.engine_config, models.catalog", "torch, transformers, ray, fastapi"),
        ("models.engine.async_engine", "ray, fastapi, transformers"),
    ],
)
def test_light_processes_stay_light(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; print(*({{*'{absent}'.split(', ')}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_models_package_is_empty() -> None:
    assert (ROOT / "models/__init__.py").read_text() == ""


def test_no_machine_paths_or_package_hosts() -> None:
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for pattern in FORBIDDEN:
            assert pattern.findall(text) == [], path.relative_to(ROOT)


def test_tiny_checkpoints_are_small_enough_to_be_tracked() -> None:
    tracked = _tracked()
    sizes = [
        sum(path.stat().st_size for path in tracked if path.is_relative_to(folder)) for folder in BUILT_IN.values()
    ]
    assert all(sizes), sizes
    assert sum(sizes) <= MAX_TINY_BYTES, sizes


def test_every_pin_has_hashes_and_both_locks_agree() -> None:
    run, dev = _pins("requirements.lock"), _pins("requirements-dev.lock")
    assert run.items() <= dev.items()
    for lock, pins in (("requirements.lock", run), ("requirements-dev.lock", dev)):
        text = (ROOT / lock).read_text()
        assert len(re.findall(r"^\S.*==\S+ \\\n    --hash=sha256:", text, flags=re.MULTILINE)) == len(pins)
        assert not [name for name in pins if name == "torch" or name.startswith(("nvidia-", "cuda-", "triton"))]


def test_locks_hold_what_the_project_names() -> None:
    project = _project()
    for names, pins in ((project["run"], _pins("requirements.lock")), (project["dev"], _pins("requirements-dev.lock"))):
        for requirement in map(Requirement, names):
            if requirement.name != "torch":
                assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_torch_is_one_version_everywhere() -> None:
    for name in ("pyproject.toml", "Makefile", "Dockerfile"):
        assert set(re.findall(r"torch==([\d.]+\d)", (ROOT / name).read_text())) == {TORCH_VERSION}, name


def test_everything_that_is_imported_is_named_in_the_project_file() -> None:
    project = _project()
    # torch for CUDA brings triton; xformers is one of its attention backends, locust tests load, for whoever has them.
    asked_for = [*project["run"], *project["extras"], "triton", "xformers", "locust"]
    named = {canonicalize_name(Requirement(line).name) for line in asked_for}
    named_dev = named | {canonicalize_name(Requirement(line).name) for line in project["dev"]}
    providers = metadata.packages_distributions()
    for path in _tracked():
        folder = path.relative_to(ROOT).parts[0]
        if path.suffix != ".py" or folder not in (*PACKAGES, "tests"):
            continue
        runs = folder in ("api", "autoscaling", "dashboards", "deployments", "models") and "tiny" not in path.parts
        for module in _imports(path) - {*PACKAGES, "tests"} - sys.stdlib_module_names:
            distributions = {canonicalize_name(name) for name in providers.get(module, [module])}
            assert distributions & (named if runs else named_dev), f"{path.relative_to(ROOT)} imports {module}"


def _imports(path: Path) -> set[str]:
    """Top-level names of the absolute imports of a file, late ones included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found
