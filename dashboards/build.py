"""Everything that is made from ``slo.yaml``: rules and their tests, exports, server configuration, runbooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards.advice import load_advices
from dashboards.burn import alert_groups
from dashboards.causes import cause_groups, causes
from dashboards.detection import detection_table
from dashboards.exports import pyrra, sloth
from dashboards.objectives import load_objectives
from dashboards.openslo import SLO_FILE, Specification, load_specification
from dashboards.promtool import promtool_tests
from dashboards.promtool_budget import budget_test
from dashboards.promtool_causes import absent_tests, cause_tests
from dashboards.recording import recording_groups
from dashboards.rules import rules_file
from dashboards.runbooks import runbook_pages
from dashboards.server_files import Addresses, alertmanager_config, prometheus_config
from dashboards.timescale import TimeScale

FOLDER: Final = Path(__file__).parent
RUNBOOKS: Final = "dashboards/runbooks"
"""Where alerts say that their page is, unless told otherwise: a path of this repository."""

_MADE = "# Made from slo.yaml by `tutti slo build`: change that.\n"
_TABLE_BEGINS, _TABLE_ENDS = (
    "<!-- detection times: made by `tutti slo build` -->\n",
    "<!-- end of detection times -->\n",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a build may be told.

    Attributes:
        scale: windows shorter than in real life.
        addresses: of the servers.
        runbooks: address of the folder of runbook pages.
    """

    scale: TimeScale = field(default_factory=TimeScale)
    addresses: Addresses = field(default_factory=Addresses)
    runbooks: str = RUNBOOKS


def render(options: Options, path: Path = SLO_FILE) -> dict[str, str]:
    """Text of every file by its path inside the folder.

    Raises:
        SloFileError: ``slo.yaml`` or ``advice.yaml`` is broken, or an alert could never fire.
    """
    specification = load_specification(path)
    files = {name: _MADE + _dump(content) for name, content in _yaml_files(specification, options, path)}
    every_cause = list(causes(load_objectives(path), options.scale))
    advices = load_advices(specification, frozenset(cause.name for cause in every_cause))
    pages = runbook_pages(specification, every_cause, advices)
    return files | {f"runbooks/{name}.md": page for name, page in pages}


def _yaml_files(specification: Specification, options: Options, path: Path) -> Iterator[tuple[str, Any]]:
    scale, runbooks = options.scale, options.runbooks
    groups = (
        *recording_groups(specification, scale),
        *alert_groups(specification, scale, runbooks),
        *cause_groups(load_objectives(path), scale, runbooks),
    )
    for group in groups:
        yield f"rules/{group.name}.yml", rules_file([group])
    yield "prometheus.yml", prometheus_config(options.addresses, scale)
    yield "alertmanager.yml", alertmanager_config(options.addresses, scale)
    yield "exports/sloth.yml", sloth(specification, runbooks)
    yield "exports/pyrra.yml", pyrra(specification)
    yield from promtool_tests(specification, scale)
    yield "rules/tests/causes.yml", cause_tests(specification, scale)
    yield "rules/tests/absent.yml", absent_tests(specification, scale)
    yield "rules/tests/budget.yml", budget_test(specification, scale)


def render_into(folder: Path, options: Options) -> dict[str, str]:
    """As ``render``, and the folder's README with the table of detection times, if it has a place for it."""
    files = render(options)
    readme = folder / "README.md"
    if readme.is_file() and _TABLE_BEGINS in (text := readme.read_text(encoding="utf-8")):
        files[readme.name] = _with_table(text, detection_table(load_specification()))
    return files


def _with_table(readme: str, table: str) -> str:
    before, _, rest = readme.partition(_TABLE_BEGINS)
    _, _, after = rest.partition(_TABLE_ENDS)
    return f"{before}{_TABLE_BEGINS}\n{table}\n\n{_TABLE_ENDS}{after}"


def stale_files(files: Mapping[str, str], folder: Path) -> list[str]:
    """Paths inside the folder that are missing, differ, or are left over from an alert that is no more."""
    wrong = [name for name, text in files.items() if not _holds(folder / name, text)]
    made = [path.relative_to(folder).as_posix() for pattern in _MADE_FOLDERS for path in folder.glob(pattern)]
    return sorted(wrong + [name for name in made if name not in files])


_MADE_FOLDERS = ("rules/*.yml", "rules/tests/*.yml", "runbooks/*.md", "exports/*.yml")


def write(files: Mapping[str, str], folder: Path) -> list[str]:
    """Write what differs and remove what is left over; returns the paths inside the folder that were touched."""
    touched = stale_files(files, folder)
    for name in touched:
        path = folder / name
        if name not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name], encoding="utf-8")
    return touched


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines as blocks, lists indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _dump(content: object) -> str:
    shape: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 10_000}
    documents = content if isinstance(content, list) else [content]
    text: str = yaml.dump_all(documents, Dumper=_Dumper, explicit_start=len(documents) > 1, **shape)
    return text
