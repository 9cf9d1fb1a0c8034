"""``tutti admin keys``: an account's API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli_admin_run import AsJson, Who, checked, key_fields, one_line_of_stdin, run, say, show

if TYPE_CHECKING:
    from api.auth.admin import Administration

keys = typer.Typer(help="API keys.", no_args_is_help=True)

_COLUMNS = ("id", "name", "hint", "mode", "status", "expires_at", "last_used_at")

Name = Annotated[str, typer.Option(help="What it is for.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="What it may do, such as audio:read; more than once. Default: all.")
]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id (key_…).")]


@keys.command("create")
def create_key(
    account: Who,
    name: Name = "made by an administrator",
    test: Annotated[bool, typer.Option("--test", help="What it makes is marked as a test.")] = False,
    scopes: Scopes = None,
    expires_in_days: Annotated[float | None, typer.Option(help="Default: never.", min=0.01, max=36_500)] = None,
    json: AsJson = False,
) -> None:
    """Make a key; it is shown this once."""
    body = checked("CreateApiKey", {"name": name, "mode": "test" if test else "live", "scopes": scopes})

    async def work(admin: Administration) -> dict[str, Any]:
        from api.auth.api_keys import NewKey
        from api.auth.principal import ALL_SCOPES

        now = admin.clock()
        expires_at = now + timedelta(days=expires_in_days) if expires_in_days is not None else None
        wanted = NewKey(body.name, body.mode, body.scopes or ALL_SCOPES, expires_at)
        made = await admin.keys.create((await admin.account(account)).id, wanted)
        return {**key_fields(made.key, now), "key": made.secret}

    made = run(work)
    say(made, f"{made['id']}: keep it now, it is not shown again:\n{made['key']}", as_json=json)


@keys.command("list")
def list_keys(account: Who, json: AsJson = False) -> None:
    """List an account's keys: those that work first."""

    async def work(admin: Administration) -> list[dict[str, Any]]:
        found = await admin.keys.of_account((await admin.account(account)).id)
        return [key_fields(key, admin.clock()) for key in found]

    show(run(work), _COLUMNS, as_json=json)


@keys.command("revoke")
def revoke_key(account: Who, key: KeyId) -> None:
    """End a key for good. Running servers notice within three seconds."""

    async def work(admin: Administration) -> None:
        await admin.keys.revoke((await admin.account(account)).id, key)

    run(work)
    typer.echo(f"{key}: revoked.")


@keys.command("rotate")
def rotate_key(
    account: Who,
    key: KeyId,
    overlap_s: Annotated[float, typer.Option(help="Seconds for which the old key goes on working.")] = 86_400.0,
    json: AsJson = False,
) -> None:
    """Replace a key; the new one is shown this once."""
    body = checked("RotateApiKey", {"overlap_s": overlap_s})

    async def work(admin: Administration) -> dict[str, Any]:
        made = await admin.keys.rotate((await admin.account(account)).id, key, body.overlap_s)
        return {**key_fields(made.key, admin.clock()), "key": made.secret}

    made = run(work)
    say(made, f"{made['id']}: keep it now, it is not shown again:\n{made['key']}", as_json=json)


@keys.command("unused")
def unused_keys(
    since: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"], help="RFC 3339 with a time zone; a date is in UTC."),
    ],
    json: AsJson = False,
) -> None:
    """Count the active keys of all accounts that nobody has used since then.

    If the last server was restarted with a new TUTTI_SECRET_KEY at that time, they still hang on the one before: they
    end when it leaves TUTTI_PREVIOUS_SECRET_KEYS. A use hashes a key anew.
    """
    moment = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
    unused, active = run(lambda admin: admin.keys.unused_since(moment))
    told = f"{unused} of {active} active API keys have not been used since {moment.isoformat()}."
    say({"unused": unused, "active": active, "since": moment.isoformat()}, told, as_json=json)


@keys.command("import")
def import_key(account: Who, name: Name = "legacy", scopes: Scopes = None, json: AsJson = False) -> None:
    """Take over a key without a prefix from an older system; it comes on stdin. It works, but counts as deprecated."""
    legacy = one_line_of_stdin("key")
    body = checked("CreateApiKey", {"name": name, "scopes": scopes})

    async def work(admin: Administration) -> dict[str, Any]:
        from api.auth.api_keys import NewKey
        from api.auth.principal import ALL_SCOPES

        wanted = NewKey(body.name, "live", body.scopes or ALL_SCOPES)
        adopted = await admin.keys.adopt((await admin.account(account)).id, wanted, legacy)
        return key_fields(adopted, admin.clock())

    adopted = run(work)
    say(adopted, f"{adopted['id']}: {adopted['hint']} works now; replace it with a new key soon.", as_json=json)
