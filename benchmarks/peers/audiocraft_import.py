"""Finds audiocraft's language model where it was installed for the benchmark, without most of what audiocraft asks for.

audiocraft 1.3.0 pins torch 2.1 and imports, for training, data sets and other models, some twenty packages that its
language model never calls. So it is installed without dependencies into a folder of its own, and those imports are
met by stand-ins: a stand-in can be imported, named in annotations and derived from; calling it is an error.
Only the modules of the language model are loaded; ``audiocraft/__init__.py`` would load everything.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import shlex
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

REQUIREMENTS = ("audiocraft==1.3.0", "einops==0.8.2")
FOLDER = Path(sys.prefix) / "bench-peers"

# Imported at the top of the modules below, called by none of them.
NEVER_CALLED = ("av", "flashy", "julius", "librosa", "num2words", "omegaconf", "spacy", "torchaudio")
# Their own __init__ would import the rest of audiocraft.
BARE_PACKAGES = ("audiocraft", "audiocraft.data", "audiocraft.models")


class PeerMissingError(Exception):
    """A peer is not installed; the message is the command that installs it."""


def install_command(folder: Path = FOLDER) -> str:
    """What to type, in a shell."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), *REQUIREMENTS]
    return shlex.join(pip)


def load(folder: Path = FOLDER) -> types.SimpleNamespace:
    """The modules of audiocraft's language model: ``lm``, ``patterns``, ``conditioners``.

    Raises:
        PeerMissingError: it is not installed in that folder.
    """
    if not (folder / "audiocraft").is_dir():
        raise PeerMissingError(install_command(folder))
    with _path_to(folder), _stand_ins():
        for name in BARE_PACKAGES:
            bare_package(name, folder)
        return types.SimpleNamespace(
            lm=importlib.import_module("audiocraft.models.lm"),
            patterns=importlib.import_module("audiocraft.modules.codebooks_patterns"),
            conditioners=importlib.import_module("audiocraft.modules.conditioners"),
        )


@contextmanager
def _path_to(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def bare_package(name: str, folder: Path) -> None:
    """A package of that folder whose own ``__init__`` is not run."""
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package


@contextmanager
def _stand_ins() -> Iterator[None]:
    """For the time of the import; what is imported already stays what it is, and no stand-in is left behind."""
    absent = [name for name in NEVER_CALLED if name not in sys.modules]
    finder = StandIns(absent)
    sys.meta_path.insert(0, finder)
    try:
        with xformers():
            yield
    finally:
        sys.meta_path.remove(finder)
        for name in [each for each in sys.modules if each.partition(".")[0] in absent]:
            del sys.modules[name]


@contextmanager
def xformers() -> Iterator[None]:
    """Three names of xformers, if it is not installed; audiocraft asks for them in every step.

    With its default backend, torch's SDPA, it calls none of xformers' kernels, but splits a tensor with ``unbind``.
    """
    if importlib.util.find_spec("xformers") is not None:
        yield
        return
    package, ops, profiler = (types.ModuleType(name) for name in ("xformers", "xformers.ops", "xformers.profiler"))
    vars(ops).update(unbind=torch.unbind, memory_efficient_attention=_Uncallable, LowerTriangularMask=_Uncallable)
    nobody = types.SimpleNamespace(_CURRENT_PROFILER=None)
    vars(profiler).update(profiler=types.SimpleNamespace(_Profiler=nobody))
    vars(package).update(ops=ops, profiler=profiler, __path__=[])
    modules = {module.__name__: module for module in (package, ops, profiler)}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stand-ins for these packages and everything below them."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = roots

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in self._roots:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing in it to run."""


class _StandIn(types.ModuleType):
    """A module with every name in it, each of them a class of no use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Uncallable,), {"__module__": self.__name__})


class _Uncallable:
    def __init__(self, *_args: object, **_settings: object) -> None:
        raise NotImplementedError(
            f"{type(self).__module__}.{type(self).__name__} is a stand-in that nobody should call"
        )
