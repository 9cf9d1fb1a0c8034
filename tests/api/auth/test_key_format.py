"""Keys that a leak scanner can find, and typos that can be told from unknown keys."""

from __future__ import annotations

import re
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auth import key_format
from api.auth.key_format import KeyMode, checksum, hint, is_prefixed, new_key, refuse_mistyped
from api.errors import ApiError, ErrorCode

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY = new_key("live", bytes(range(32)))


@pytest.mark.parametrize("mode", ["live", "test"])
def test_a_key_has_the_documented_shape(mode: KeyMode) -> None:
    key = new_key(mode)
    assert re.fullmatch(rf"sk_{mode}_tt_[0-9A-Za-z]{{36}}", key)
    assert is_prefixed(key)
    refuse_mistyped(key)
    assert new_key(mode) != key


def test_the_checksum_is_crc32_in_base62_of_what_stands_before() -> None:
    value = 0
    for digit in KEY[-6:]:
        value = value * 62 + BASE62.index(digit)
    assert value == zlib.crc32(KEY[:-6].encode())
    assert checksum("") == "000000"


def test_the_same_entropy_makes_the_same_key_and_other_makes_another() -> None:
    assert new_key("live", bytes(range(32))) == KEY
    assert new_key("live", bytes(range(1, 33))) != KEY
    assert new_key("test", bytes(range(32)))[-6:] != KEY[-6:], "the prefix is part of the checksum"


@given(at=st.integers(min_value=len("sk_live_tt_"), max_value=len(KEY) - 1), digit=st.sampled_from(BASE62))
def test_any_single_typo_is_found(at: int, digit: str) -> None:
    typo = KEY[:at] + digit + KEY[at + 1 :]
    if typo == KEY:
        return
    with pytest.raises(ApiError, match="mistyped") as refused:
        refuse_mistyped(typo)
    assert refused.value.code is ErrorCode.INVALID_CREDENTIALS


@pytest.mark.parametrize("broken", [KEY[:-1], KEY + "a", "sk_live_tt_", KEY[:-1] + "é", KEY[:20] + " " + KEY[21:]])
def test_a_key_that_was_cut_or_mangled_says_so(broken: str) -> None:
    with pytest.raises(ApiError, match="cut"):
        refuse_mistyped(broken)


def test_a_hint_shows_how_it_begins_and_ends_only() -> None:
    assert hint(KEY) == f"sk_live_tt_…{KEY[-4:]}"
    assert hint("old-key-without-prefix") == "…efix"
    assert len(hint(KEY)) <= 32, "the column's width"


@given(st.text())
def test_nothing_else_counts_as_prefixed(text: str) -> None:
    assert is_prefixed(text) == text.startswith(tuple(key_format.PREFIXES.values()))
