"""``xp.cfg``: the whole training configuration of an audiocraft model, as YAML. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from models.audiocraft.archive import read_values
from models.config_file import Section
from models.errors import CheckpointError


class Settings:
    """Sections and values by their paths; values that refer to others are looked up.

    Raises:
        CheckpointError: from every method, naming the file and the setting.
    """

    def __init__(self, file: Path, content: Mapping[str, Any]) -> None:
        self.file, self._content = f"{file}: xp.cfg", content

    @classmethod
    def of(cls, file: Path) -> Settings:
        """Those in a file that audiocraft exported."""
        text = read_values(file).get("xp.cfg")
        if not isinstance(text, str):
            raise CheckpointError(f"{file} holds no xp.cfg: export the model with audiocraft.utils.export")
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CheckpointError(f"{file}: xp.cfg is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: xp.cfg must be a YAML mapping")
        return cls(file, content)

    def get(self, path: str, default: object = None) -> Any:
        """The value at ``a.b.c``; ``${a.b}`` stands for another."""
        return self._resolve(self._at(path, default))

    def section(self, path: str) -> Section:
        """A section whose values have been looked up."""
        values = self._at(path, None)
        if isinstance(values, Mapping):
            values = {key: self._resolve(value) for key, value in values.items()}
        return Section(path, values, self.file)

    def require(self, path: str, wanted: object) -> None:
        """The one value that is supported there."""
        found = self.get(path, wanted)
        if found != wanted:
            raise CheckpointError(f"{self.file}: {path} = {found!r} is not supported, it must be {wanted!r}")

    def _at(self, path: str, default: object) -> Any:
        value: Any = self._content
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return value

    def _resolve(self, value: object) -> Any:
        for _ in range(8):  # a reference to a reference is common, a longer chain is a circle
            if not (isinstance(value, str) and value.startswith("${") and value.endswith("}")):
                return value
            value = self._at(value[2:-1], None)
        raise CheckpointError(f"{self.file}: {value} refers to itself")
