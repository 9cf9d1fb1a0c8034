"""``tutti admin`` on a database of its own: what it does, what it refuses, and that it shows no secret twice."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from api.cli import main
from api.cli_output import ExitCode

Capture = pytest.CaptureFixture[str]
PASSWORD = "four calm violet trombones"
EMAIL = "ada@example.com"


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path))
    assert main(["db", "upgrade"]) == ExitCode.OK
    capsys.readouterr()


class Terminal(io.StringIO):
    """Somebody at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def admin(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command that succeeds; returns what it printed, from JSON where it is."""

    def run(*arguments: str, stdin: str = "") -> Any:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        assert main(["admin", *arguments]) == ExitCode.OK, capsys.readouterr().err
        out: str = capsys.readouterr().out
        return json.loads(out) if "--json" in arguments else out

    return run


@pytest.fixture
def refused(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command that is refused; returns its one line."""

    def run(*arguments: str, stdin: str = "", code: ExitCode = ExitCode.USAGE) -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        assert main(["admin", *arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        return str(err)

    return run


def create(admin: Any, email: str = EMAIL, *options: str) -> dict[str, Any]:
    made: dict[str, Any] = admin("users", "create", email, "--password-stdin", *options, "--json", stdin=PASSWORD)
    return made


# ------------------------------------------------------------------------------------------------ users
def test_a_user_is_made_listed_and_shown(admin: Any) -> None:
    made = create(admin, "Ada@Example.com", "--name", "Ada", "--tier", "pro", "--role", "operator")
    assert {name: made[name] for name in ("email", "name", "tier", "role", "status")} == {
        "email": EMAIL,
        "name": "Ada",
        "tier": "pro",
        "role": "operator",
        "status": "active",
    }
    assert admin("users", "list", "--json")["data"] == [made]
    assert admin("users", "show", EMAIL, "--json") == admin("users", "show", made["id"], "--json") == made
    assert PASSWORD not in json.dumps(made)
    told = admin("users", "show", EMAIL)
    assert made["id"] in told
    assert EMAIL in told


def test_a_user_without_a_password_is_of_the_smallest_tier(admin: Any) -> None:
    made = admin("users", "create", EMAIL, "--no-password", "--json")
    assert (made["tier"], made["role"]) == ("free", "user")


def test_a_password_is_asked_for_at_a_terminal(admin: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: PASSWORD)
    assert main(["admin", "users", "create", EMAIL]) == ExitCode.OK
    assert PASSWORD not in "".join(capsys.readouterr())


def test_a_user_is_changed(admin: Any) -> None:
    create(admin)
    changed = admin("users", "set", EMAIL, "--tier", "enterprise", "--role", "admin", "--suspend", "--json")
    assert (changed["tier"], changed["role"], changed["status"]) == ("enterprise", "admin", "suspended")
    assert admin("users", "set", EMAIL, "--activate", "--json")["status"] == "active"
    assert "every session has ended" in admin("users", "password", EMAIL, "--password-stdin", stdin="x" * 12)


def test_a_user_is_erased_for_good(admin: Any, refused: Any) -> None:
    made = create(admin)
    admin("keys", "create", EMAIL)
    assert "--yes" in refused("users", "erase", EMAIL)
    assert "erased" in admin("users", "erase", EMAIL, "--yes")
    assert admin("users", "show", made["id"], "--json")["email"] is None
    assert admin("keys", "list", made["id"], "--json")["data"] == []
    for change in (("set", made["id"], "--activate"), ("erase", made["id"], "--yes")):
        assert "was erased" in refused("users", *change)
    create(admin)


@pytest.mark.parametrize(("answer", "code", "email"), [("n\n", ExitCode.USAGE, EMAIL), ("y\n", ExitCode.OK, None)])
def test_erasing_asks_at_a_terminal(
    admin: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, answer: str, code: ExitCode, email: str | None
) -> None:
    made = create(admin)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["admin", "users", "erase", EMAIL]) == code
    capsys.readouterr()
    assert admin("users", "show", made["id"], "--json")["email"] == email


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ("users create no-email --password-stdin", PASSWORD, "email"),
        ("users create a@b.c --password-stdin", "short", "password"),
        ("users create a@b.c --password-stdin", "", "no password came on stdin"),
        ("users create a@b.c", "", "--password-stdin"),
        ("users create a@b.c --no-password --password-stdin", PASSWORD, "exclude each other"),
        ("users create a@b.c --no-password --tier gold", "", "free, pro, enterprise"),
        ("users create a@b.c --no-password --role king", "", "user, operator, admin"),
        ("users create ada@example.com --no-password", "", "account with this email exists"),
        ("users show nobody@example.com", "", "tutti admin users list"),
        ("users show acc_nobody", "", "tutti admin users list"),
        ("users show @", "", "no email address"),
        ("users set ada@example.com", "", "say what to change"),
        ("users set ada@example.com --tier gold", "", "free, pro, enterprise"),
        ("users set ada@example.com --role king", "", "user, operator, admin"),
        ("users set nobody@example.com --suspend", "", "tutti admin users list"),
        ("users password ada@example.com --password-stdin", "short", "password"),
        ("users list --limit 0", "", "--limit"),
        ("keys create nobody@example.com", "", "tutti admin users list"),
        ("keys create ada@example.com --scope everything", "", "scopes"),
        ("keys create ada@example.com --expires-in-days 0", "", "--expires-in-days"),
        ("keys revoke ada@example.com key_0", "", "no API key of that id"),
        ("keys rotate ada@example.com key_0", "", "no API key of that id"),
        ("keys rotate ada@example.com key_0 --overlap-s -1", "", "overlap_s"),
        ("keys import ada@example.com", "", "no key came on stdin"),
        ("keys import ada@example.com", "short", "16 characters"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    admin: Any, refused: Any, arguments: str, stdin: str, words: str
) -> None:
    create(admin)
    told = refused(*arguments.split(), stdin=stdin)
    assert words in told
    assert not stdin or stdin not in told


# ------------------------------------------------------------------------------------------------- keys
def test_a_key_is_made_rotated_and_revoked(admin: Any) -> None:
    create(admin)
    made = admin(
        "keys", "create", EMAIL, "--name", "studio", "--test", "--scope", "audio:read", "--scope", "audio:write",
        "--expires-in-days", "30", "--json",
    )  # fmt: skip
    assert made["key"].startswith("sk_test_tt_")
    assert (made["name"], made["scopes"], made["status"]) == ("studio", ["audio:read", "audio:write"], "active")
    assert made["expires_at"]
    rotated = admin("keys", "rotate", EMAIL, made["id"], "--overlap-s", "0", "--json")
    assert rotated["key"] != made["key"]
    listed = admin("keys", "list", EMAIL, "--json")["data"]
    assert [(key["id"], key["status"]) for key in listed] == [(rotated["id"], "active"), (made["id"], "expired")]
    assert "key" not in listed[0]
    assert admin("keys", "revoke", EMAIL, rotated["id"]) == f"{rotated['id']}: revoked.\n"
    assert {key["status"] for key in admin("keys", "list", EMAIL, "--json")["data"]} == {"revoked", "expired"}


def test_a_key_is_the_last_line_for_people(admin: Any) -> None:
    create(admin)
    shown = admin("keys", "create", EMAIL)
    assert shown.splitlines()[-1].startswith("sk_live_tt_")
    assert shown.splitlines()[-1] not in admin("keys", "list", EMAIL)


def test_a_legacy_key_is_taken_over(admin: Any) -> None:
    create(admin)
    adopted = admin("keys", "import", EMAIL, "--json", stdin="0123456789-from-before\n")
    assert (adopted["hint"], adopted["mode"], adopted["name"]) == ("…fore", "live", "legacy")


def test_keys_that_nobody_used_since_the_secret_changed_are_counted(admin: Any, refused: Any) -> None:
    create(admin)
    for _ in range(2):
        key = admin("keys", "create", EMAIL, "--json")["id"]
    admin("keys", "revoke", EMAIL, key)
    assert "1 of 1 active API keys" in admin("keys", "unused", "--since", "2100-01-01")
    found = admin("keys", "unused", "--since", "2020-02-03T04:05:06+01:00", "--json")
    assert found == {"unused": 0, "active": 1, "since": "2020-02-03T04:05:06+01:00"}
    assert "--since" in refused("keys", "unused", "--since", "yesterday")


# ------------------------------------------------------------------------------------------------ tiers
def test_tiers_are_listed(admin: Any) -> None:
    found = admin("tiers", "--json")["data"]
    assert [tier["name"] for tier in found] == ["free", "pro", "enterprise"]
    assert "free" in admin("tiers")


# ---------------------------------------------------------------------------------- what it stands upon
def test_a_database_without_a_schema_says_what_to_do(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTI_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/other.db")
    assert "tutti db upgrade" in refused("users", "list", code=ExitCode.FAILED)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TUTTI_TIERS_FILE", "/no/such.yaml", "TUTTI_TIERS_FILE"),
        ("TUTTI_ENVIRONMENT", "production", "TUTTI_SECRET_KEY"),
        ("TUTTI_NO_SUCH", "1", "TUTTI_NO_SUCH"),
    ],
)
def test_bad_settings_are_named(
    refused: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    assert words in refused("users", "list")
