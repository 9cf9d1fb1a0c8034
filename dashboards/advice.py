"""The words of the runbooks, from ``advice.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dashboards.document import Document, SloFileError, read_documents
from dashboards.openslo import Specification

ADVICE_FILE: Final = Path(__file__).parent / "advice.yaml"


@dataclass(frozen=True, slots=True)
class Advice:
    """The words of one page, in Markdown.

    Attributes:
        means: for whoever listens.
        first: what to do, in order.
        causes: likely ones, each with how to tell and what to do about it.
        look: at which dashboards.
    """

    means: str
    first: tuple[str, ...]
    causes: tuple[tuple[str, str], ...]
    look: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advices:
    """All of them.

    Attributes:
        slis: by name of the SLI, for alerts on its budget.
        absent: for the alerts that an SLI is not measured.
        causes: by name of the alert.
    """

    slis: Mapping[str, Advice]
    absent: Advice
    causes: Mapping[str, Advice]


def load_advices(specification: Specification, cause_names: frozenset[str], path: Path = ADVICE_FILE) -> Advices:
    """Read the file.

    Raises:
        SloFileError: something is missing, or is there for an alert that does not exist.
    """
    documents = read_documents(path)
    if len(documents) != 1:
        raise SloFileError(f"{path}: must hold one document, not {len(documents)}")
    top = documents[0]
    top.refuse_others(("common", "slis", "absent", "causes"))
    common = top.child("common")
    slis, causes = top.child("slis"), top.child("causes")
    slis.refuse_others(specification.slis)
    causes.refuse_others(sorted(cause_names))
    return Advices(
        {sli: _advice(slis.child(sli), common) for sli in specification.slis},
        _advice(top.child("absent"), common),
        {name: _advice(causes.child(name), common) for name in sorted(cause_names)},
    )


def _advice(document: Document, common: Document) -> Advice:
    document.refuse_others(("means", "first", "causes", "look"))
    return Advice(
        document.text("means"),
        tuple(common.text(step[1:]) if step.startswith("$") else step for step in document.texts("first")),
        tuple((item.text("cause"), item.text("tell")) for item in document.items("causes")),
        document.texts("look"),
    )
