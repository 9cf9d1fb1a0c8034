"""Argon2id with the chosen parameters, never on the event loop, never without a bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from api.auth.passwords import NOBODY, Passwords
from api.errors import ApiError, ErrorCode
from tests.api.auth.calls import PASSWORD


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_a_hash_is_argon2id_with_owasps_parameters(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert not passwords.outdated(stored)
    assert await passwords.verify(stored, PASSWORD)
    assert not await passwords.verify(stored, PASSWORD + "!")


async def test_the_same_text_in_another_unicode_form_is_the_same_password(passwords: Passwords) -> None:
    assert await passwords.verify(await passwords.hash("twelve cafés"), "twelve cafe\u0301s")


async def test_older_parameters_are_found_outdated(passwords: Passwords) -> None:
    stored = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    assert await passwords.verify(stored, PASSWORD)
    assert passwords.outdated(stored)


async def test_without_an_account_the_same_work_is_done(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []

    class Watched(PasswordHasher):
        def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002 the library's name
            verified.append(hash)
            return super().verify(hash, password)

    watched = Watched(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", watched)
    assert not await passwords.verify(None, PASSWORD)
    assert not await passwords.verify(None, "nobody has this password"), "not even with the decoy's own password"
    assert verified == [NOBODY, NOBODY]
    assert not passwords.outdated(NOBODY), "another cost would tell the two apart"


async def test_a_broken_hash_verifies_nothing(passwords: Passwords) -> None:
    assert not await passwords.verify("not a hash", PASSWORD)


async def test_the_line_is_bounded_and_the_loop_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, gate, loop_thread = Passwords(threads=1, max_waiting=1), threading.Event(), threading.get_ident()
    threads: set[int] = set()

    def held(stored: str, password: str) -> bool:
        threads.add(threading.get_ident())
        return gate.wait(30)

    monkeypatch.setattr(passwords, "_matches", held)
    first, second = (asyncio.create_task(passwords.verify("x", PASSWORD)) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await passwords.verify("x", PASSWORD)
    assert refused.value.code is ErrorCode.SYSTEM_OVERLOADED
    assert (refused.value.headers or {})["Retry-After"] == "2"
    gate.set()
    assert await first
    assert await second
    assert await passwords.verify("x", PASSWORD), "places come free again"
    assert loop_thread not in threads
    passwords.close()
