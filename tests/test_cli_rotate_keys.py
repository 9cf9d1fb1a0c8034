"""``tutti admin rotate-keys``: master keys and data keys change, and what was sealed before opens all the while."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from api.cli import main
from api.cli_output import ExitCode
from api.clock import utc_now
from api.settings import Settings
from api.storage.vault import Vault
from api.store.database import Database

Capture = pytest.CaptureFixture[str]
EMAIL = "ada@example.com"
OLD = f"old:{base64.b64encode(bytes(32)).decode()}"
NEW = f"new:{base64.b64encode(bytes(range(32))).decode()}"


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> str:
    """The id of an account of a platform whose master key is the old one."""
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUTTI_MASTER_KEYS", OLD)
    assert main(["db", "upgrade"]) == ExitCode.OK
    capsys.readouterr()
    return str(told(capsys, "users", "create", EMAIL, "--no-password")["id"])


def told(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """What a command of ``tutti admin`` that succeeds says."""
    assert main(["admin", *arguments, "--json"]) == ExitCode.OK, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def with_vault(work: Callable[[Vault], Awaitable[bytes]]) -> bytes:
    """Something that a server does with the keys of its settings."""

    async def opened() -> bytes:
        settings = Settings()
        db = Database.connect(settings.database_url)
        try:
            return await work(Vault(db, settings.secrets.master_keys, utc_now))
        finally:
            await db.close()

    return asyncio.run(opened())


def test_a_new_master_key_takes_over(account: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    box = with_vault(lambda vault: vault.seal(None, account, b"music", "x"))
    monkeypatch.setenv("TUTTI_MASTER_KEYS", f"{NEW},{OLD}")
    assert told(capsys, "rotate-keys") == {"wrapped": 1}
    assert with_vault(lambda vault: vault.unseal(None, account, box, "x")) == b"music"
    assert told(capsys, "rotate-keys") == {"wrapped": 0}
    monkeypatch.setenv("TUTTI_MASTER_KEYS", NEW)
    assert with_vault(lambda vault: vault.unseal(None, account, box, "x")) == b"music"


def test_an_old_master_key_that_is_gone_too_early_is_named(
    account: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    box = with_vault(lambda vault: vault.seal(None, account, b"music", "x"))
    monkeypatch.setenv("TUTTI_MASTER_KEYS", NEW)
    assert main(["admin", "rotate-keys"]) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert "'old'" in error
    assert "TUTTI_MASTER_KEYS" in error
    assert error.count("\n") == 1
    monkeypatch.setenv("TUTTI_MASTER_KEYS", OLD)
    assert with_vault(lambda vault: vault.unseal(None, account, box, "x")) == b"music"


def test_an_accounts_data_key_is_rotated_alone(account: str, capsys: Capture) -> None:
    before = with_vault(lambda vault: vault.seal(None, account, b"old", "x"))
    assert told(capsys, "rotate-keys", "--account", EMAIL) == {"account_id": account, "version": 2}
    after = with_vault(lambda vault: vault.seal(None, account, b"new", "x"))
    assert after[:8] != before[:8]  # the version is told
    assert with_vault(lambda vault: vault.unseal(None, account, before, "x")) == b"old"
    assert with_vault(lambda vault: vault.unseal(None, account, after, "x")) == b"new"
    assert main(["admin", "rotate-keys", "--account", account]) == ExitCode.OK
    assert "key 3" in capsys.readouterr().out


def test_an_account_must_be_there_and_alive(account: str, capsys: Capture) -> None:
    assert main(["admin", "rotate-keys", "--account", "nobody@example.com"]) == ExitCode.USAGE
    assert "tutti admin users list" in capsys.readouterr().err
    assert main(["admin", "users", "erase", account, "--yes"]) == ExitCode.OK
    assert main(["admin", "rotate-keys", "--account", account]) == ExitCode.USAGE
    assert "was erased" in capsys.readouterr().err
