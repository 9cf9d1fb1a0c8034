"""How dataclasses travel between processes of different versions.

While a platform is updated, workers and gateways of one version talk to replicas of another. By itself a dataclass with
slots travels as the list of its values: a field more, and the other side has attributes that are not there, or values
that it drops without a word. Here the values travel by name. A field that the sender does not know gets its default,
so every field that is added later must have one. A field that the receiver does not know is dropped where the sender
left it at its default, and noted where it did not: who would make something else without it asks `unknown` first.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

_NOTED = "_unknown"


class WireForm:
    """Base of dataclasses with slots, frozen ones too. Nothing is validated on arrival: the sender did so."""

    __slots__ = (_NOTED,)

    def __init_subclass__(cls) -> None:
        # In the class itself: @dataclass(frozen=True, slots=True) puts its own pair into every class that has none.
        for name, method in (("__getstate__", _state), ("__setstate__", _restore)):
            setattr(cls, name, method)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Fields that the sender set and this version does not know, also of what is held: "sampling.min_p"."""
        return tuple(_unknown(self))


def _unknown(value: WireForm) -> Iterator[str]:
    yield from getattr(value, _NOTED, ())
    for each in fields(value):  # type: ignore[arg-type]  # every subclass is a dataclass
        held = getattr(value, each.name)
        if isinstance(held, WireForm):
            yield from (f"{each.name}.{name}" for name in _unknown(held))


def _state(self: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What travels: values by name, and the names of those that whoever does not know them may drop."""
    values = dict.fromkeys(getattr(self, _NOTED, ()))  # whoever gets it next is to hear of them, too
    values |= {each.name: getattr(self, each.name) for each in fields(self)}
    return values, tuple(each.name for each in fields(self) if _is_default(each, values[each.name]))


def _restore(self: Any, state: Any) -> None:
    known = fields(self)
    if isinstance(state, list):  # of a version before this form: values in the order of the fields
        values, droppable = dict(zip((each.name for each in known), state, strict=False)), ()
    else:
        values, droppable = state
    for each in known:
        value = values[each.name] if each.name in values else _default(each, type(self).__name__)
        object.__setattr__(self, each.name, value)  # also where it is frozen
    noted = tuple(sorted(values.keys() - {each.name for each in known} - set(droppable)))
    if noted:
        object.__setattr__(self, _NOTED, noted)


def _default(each: Field[Any], owner: str) -> Any:
    if each.default is not MISSING:
        return each.default
    if each.default_factory is not MISSING:
        return each.default_factory()
    raise pickle.UnpicklingError(f"{owner} came without {each.name!r}, which has no default")


def _is_default(each: Field[Any], value: Any) -> bool:
    if each.default is not MISSING:
        return bool(value == each.default)
    return each.default_factory is not MISSING and bool(value == each.default_factory())
