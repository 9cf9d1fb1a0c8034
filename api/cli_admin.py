"""``tutti admin``: users, tiers and keys, on the database itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli_admin_keys import keys
from api.cli_admin_run import AsJson, Who, account_fields, checked, one_line_of_stdin, run, say, show
from api.cli_output import usage_error

if TYPE_CHECKING:
    from api.auth.admin import Administration
    from api.auth.identity import Account

admin = typer.Typer(help="Look after users, tiers and API keys.", no_args_is_help=True)
users = typer.Typer(help="Accounts.", no_args_is_help=True)
admin.add_typer(users, name="users")
admin.add_typer(keys, name="keys")

_COLUMNS = ("id", "email", "name", "role", "tier", "status", "created_at")
_ROLES = ("user", "operator", "admin")

Tier = Annotated[str | None, typer.Option(help="A name of `tutti admin tiers`.")]
RoleName = Annotated[str | None, typer.Option("--role", help="user, operator or admin.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin, in one line.")]


@admin.command()
def tiers(json: AsJson = False) -> None:
    """List the tiers and what they may do."""

    async def work(admin: Administration) -> list[dict[str, Any]]:
        from api.schemas.accounts import Tier as PublicTier

        return [PublicTier.of(tier).model_dump() for tier in admin.tiers.tiers.values()]

    found = run(work)
    show(found, list(found[0]), as_json=json)


@admin.command("rotate-keys")
def rotate_keys(
    account: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Only this one, an email or id: new data gets a key of its own."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Wrap every account's data keys with the first of TUTTI_MASTER_KEYS; stored audio is not touched.

    Put the new master key in front of the old one, restart every server, run this, and take the old one out.
    Everything can be read all the while.
    """
    if account is None:
        wrapped = run(lambda admin: admin.vault.rotate_master())
        say({"wrapped": wrapped}, f"{wrapped} data keys wrapped anew; older master keys may go.", as_json=json)
        return

    async def work(admin: Administration) -> tuple[str, int]:
        found = await _living(admin, account)
        return found.id, await admin.vault.rotate_account(found.id)

    account_id, version = run(work)
    told = f"{account_id}: new data is encrypted with key {version}, and older data can be read as before."
    say({"account_id": account_id, "version": version}, told, as_json=json)


@users.command("create")
def create_user(
    email: Annotated[str, typer.Argument(help="Its email.")],
    name: Annotated[str, typer.Option(help="As it wants to be called.")] = "",
    tier: Tier = None,
    role: RoleName = None,
    password_stdin: FromStdin = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="No login, API keys only.")] = False,
    json: AsJson = False,
) -> None:
    """Make an account; the password is asked for unless it comes on stdin."""
    if password_stdin and no_password:
        raise usage_error("--password-stdin and --no-password exclude each other")
    password = None if no_password else _password(from_stdin=password_stdin)
    # Without a password the rest is checked beside one that nobody gets.
    body = checked("Register", {"email": email, "name": name, "password": password or "x" * 64})

    async def work(admin: Administration) -> Account:
        chosen = admin.known_tier(tier) if tier is not None else None
        return await admin.directory.create(body.email, password, body.name, role=_role(role or "user"), tier=chosen)

    account = run(work)
    say(account_fields(account), f"{account.id}: {account.email}, {account.tier}, {account.role}", as_json=json)


@users.command("list")
def list_users(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 50, json: AsJson = False
) -> None:
    """List the newest accounts."""

    async def work(admin: Administration) -> list[Account]:
        return await admin.directory.newest(limit)

    show([account_fields(account) for account in run(work)], _COLUMNS, as_json=json)


@users.command("show")
def show_user(account: Who, json: AsJson = False) -> None:
    """Show one account."""

    async def work(admin: Administration) -> Account:
        return await admin.account(account)

    fields = account_fields(run(work))
    if json:
        say(fields, "", as_json=True)
    else:
        show([fields], _COLUMNS, as_json=False)


@users.command("set")
def set_user(
    account: Who,
    tier: Tier = None,
    role: RoleName = None,
    suspended: Annotated[
        bool | None, typer.Option("--suspend/--activate", help="A suspended account keeps all and may do nothing.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Change an account's tier, role or status. Running servers notice within three seconds."""
    if tier is None and role is None and suspended is None:
        raise usage_error("say what to change: --tier, --role, --suspend or --activate")
    chosen_role = _role(role) if role is not None else None

    async def work(admin: Administration) -> Account:
        found = await _living(admin, account)
        if tier is not None:
            await admin.directory.set_tier(found.id, admin.known_tier(tier))
        if chosen_role is not None:
            await admin.directory.set_role(found.id, chosen_role)
        if suspended is not None:
            await admin.directory.set_status(found.id, "suspended" if suspended else "active")
        return await admin.account(found.id)

    changed = run(work)
    told = f"{changed.id}: {changed.tier}, {changed.role}, {changed.status}"
    say(account_fields(changed), told, as_json=json)


@users.command("password")
def set_password(account: Who, password_stdin: FromStdin = False) -> None:
    """Set an account's password; all of its sessions end."""
    password = _password(from_stdin=password_stdin)
    checked("Register", {"email": "nobody@example.com", "password": password})

    async def work(admin: Administration) -> str:
        found = await _living(admin, account)
        await admin.directory.set_password(found.id, password)
        return found.id

    typer.echo(f"{run(work)}: the password is set, and every session has ended.")


@users.command("erase")
def erase_user(
    account: Who, yes: Annotated[bool, typer.Option("--yes", help="Do not ask. There is no way back.")] = False
) -> None:
    """Erase an account: cancel its work, end its credentials, destroy its keys, remove everything personal."""
    if not yes:
        _confirm(f"Erase {account} for good?")

    async def work(admin: Administration) -> str:
        found = await _living(admin, account)
        await admin.eraser.erase(found.id)
        return found.id

    typer.echo(f"{run(work)}: erased.")


async def _living(admin: Administration, who: str) -> Account:
    found = await admin.account(who)
    if found.status == "erased":
        raise usage_error(f"{found.id} was erased: nothing can be changed about it")
    return found


def _role(name: str) -> Any:
    from api.auth.principal import Role

    if name not in _ROLES:
        raise usage_error(f"there is no role {name!r}: it is one of {', '.join(_ROLES)}")
    return Role(name)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return one_line_of_stdin("password")
    if not sys.stdin.isatty():
        raise usage_error("there is nobody to ask for a password: give it on stdin with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise usage_error(f"{question} There is nobody to ask: say --yes")
    if not typer.confirm(question):
        raise usage_error("nothing was done")
