"""Settings: their defaults, their secrets, and what production refuses."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.secret_keys import FILE, development_secrets, parse_master_keys
from api.settings import REPOSITORY, Settings, SettingsError
from api.settings_reference import DOCUMENT, renewed

MASTER_KEY = base64.b64encode(bytes(32)).decode()
SECRETS = {"secret_key": "s" * 32, "master_keys": f"1:{MASTER_KEY}"}


def test_defaults_lie_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTTI_DATA_DIR")
    settings = Settings()
    assert settings.data_dir == REPOSITORY / "data"
    assert settings.database_url == f"sqlite+aiosqlite:///{REPOSITORY}/data/tutti.db"
    assert settings.storage_url == f"file://{REPOSITORY}/data/audio"
    assert settings.redis_url is None
    assert settings.environment == "development"


def test_data_folder_moves_what_lies_in_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a b")
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/a b/tutti.db"
    assert settings.storage_url == f"file://{tmp_path}/a%20b/audio"
    assert Settings(data_dir="elsewhere").data_dir == REPOSITORY / "elsewhere"


def test_making_settings_touches_nothing(data_dir: Path) -> None:
    Settings()
    assert not data_dir.exists()


def test_development_makes_its_secrets_once_for_all_processes(data_dir: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Settings().secrets, range(8)))
    assert {secrets.secret_key for secrets in found} == {found[0].secret_key}
    assert len(found[0].secret_key) >= 32
    assert list(found[0].master_keys) == ["development"]
    assert [path.name for path in data_dir.iterdir()] == [FILE]
    assert (data_dir / FILE).stat().st_mode & 0o777 == 0o600
    assert data_dir.stat().st_mode & 0o777 == 0o700


def test_given_secrets_win(data_dir: Path) -> None:
    given = Settings(**SECRETS).secrets
    assert (given.secret_key, dict(given.master_keys)) == ("s" * 32, {"1": bytes(32)})
    assert not data_dir.exists()
    half = Settings(secret_key="s" * 32).secrets
    assert (half.secret_key, list(half.master_keys)) == ("s" * 32, ["development"])


def test_secrets_show_nowhere() -> None:
    settings = Settings(**SECRETS, redis_url="redis://:hush@cache:6379", database_url="postgresql://a:hush@b/c")
    shown = f"{settings!r} {settings} {settings.secrets!r}"
    assert "hush" not in shown
    assert "ssss" not in shown
    assert MASTER_KEY not in shown


def test_a_damaged_file_of_secrets_is_not_replaced(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / FILE).write_text(json.dumps({"secret_key": "x" * 32}))
    with pytest.raises(SettingsError, match="is damaged: bring it back"):
        _ = Settings().secrets


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="set TUTTI_DATA_DIR"):
        _ = Settings(data_dir=tmp_path / "file" / "data").secrets


@pytest.mark.parametrize(
    "text",
    ["", "1", f"{MASTER_KEY}", f":{MASTER_KEY}", "1:short", "1:%%%", f"1:{MASTER_KEY},", f"{'n' * 65}:{MASTER_KEY}"],
)
def test_bad_master_keys_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError, match=r"TUTTI_MASTER_KEYS: key \d is not an id") as caught:
        Settings(master_keys=text)
    assert MASTER_KEY not in str(caught.value)


def test_master_keys_keep_their_order_and_have_ids_of_their_own() -> None:
    assert list(parse_master_keys(f"new:{MASTER_KEY}, old:{MASTER_KEY}")) == ["new", "old"]
    with pytest.raises(ValueError, match="id of another one"):
        parse_master_keys(f"a:{MASTER_KEY},a:{MASTER_KEY}")


OTHERS = ",".join(("o" * 32, "p" * 40))


def test_previous_secrets_are_accepted_behind_the_current_one(data_dir: Path) -> None:
    settings = Settings(**SECRETS, previous_secret_keys=OTHERS)
    assert settings.secrets.secret_keys == ("s" * 32, "o" * 32, "p" * 40)
    assert "oooo" not in f"{settings!r} {settings} {settings.secrets!r}"
    assert Settings(**SECRETS, previous_secret_keys="").secrets.secret_keys == ("s" * 32,)
    made = Settings(previous_secret_keys="o" * 32).secrets
    assert made.secret_keys == (made.secret_key, "o" * 32), "in development as well"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short", "key 1 is shorter than 32"),
        (f"{'o' * 32},", "key 2 is shorter than 32"),
        (f"{'o' * 32}, {'p' * 32}", "key 2 .* blank beside it"),
        (f"{'o' * 32}\n", "key 1 .* blank beside it"),
        (f"{'o' * 32},{'o' * 32}", "key 2 stands there twice"),
    ],
)
def test_bad_previous_secrets_are_refused_without_being_shown(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"TUTTI_PREVIOUS_SECRET_KEYS: {words}") as caught:
        Settings(previous_secret_keys=text)
    assert "oooo" not in str(caught.value)


def test_a_secret_does_not_replace_itself() -> None:
    with pytest.raises(SettingsError, match="TUTTI_PREVIOUS_SECRET_KEYS holds TUTTI_SECRET_KEY itself"):
        Settings(**SECRETS, previous_secret_keys=f"{'o' * 32},{'s' * 32}")


def test_production_takes_no_secret_of_development_not_even_a_former_one(data_dir: Path) -> None:
    made = Settings().secrets.secret_key
    for name, values in {
        "TUTTI_SECRET_KEY": {**SECRETS, "secret_key": made},
        "TUTTI_PREVIOUS_SECRET_KEYS": {**SECRETS, "previous_secret_keys": f"{'o' * 32},{made}"},
    }.items():
        with pytest.raises(SettingsError, match=f"take the secret that development made in .* out of {name}") as caught:
            Settings(environment="production", **values)
        assert made not in str(caught.value)
    Settings(environment="production", **SECRETS, previous_secret_keys=OTHERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.0/33", "network 1 is none"),
        ("10.0.0.1/8", "network 1 is none .*host bits"),
        ("10.0.0.0/8,", "network 2 is none"),
        ("10.0.0.0/8,proxy.example", "network 2 is none"),
        ("0.0.0.0/0", "network 1 is everybody"),
        ("::/0", "network 1 is everybody"),
    ],
)
def test_bad_networks_of_proxies_stop_the_start(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"TUTTI_TRUSTED_PROXIES: {words}"):
        Settings(trusted_proxies=text)


def test_production_says_everything_it_lacks_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(environment="production", webhook_allow_http=True)
    for word in ("TUTTI_SECRET_KEY", "TUTTI_MASTER_KEYS", "openssl rand", "unset TUTTI_WEBHOOK_ALLOW_HTTP"):
        assert word in str(caught.value)


def test_production_with_secrets_of_its_own() -> None:
    assert Settings(environment="production", **SECRETS).secrets.secret_key == "s" * 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("secret_key", "short"),
        ("redis_url", "http://cache"),
        ("public_url", "tutti.example"),
        ("public_url", "https://"),
        ("access_token_ttl_s", 0),
        ("environment", "staging"),
    ],
)
def test_bad_values_are_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"TUTTI_{name.upper()}: "):
        Settings(**{name: value})


def test_public_url_loses_its_last_slash() -> None:
    assert Settings(public_url="https://tutti.example/").public_url == "https://tutti.example"


def test_development_secrets_survive(data_dir: Path) -> None:
    assert development_secrets(data_dir) == development_secrets(data_dir)


# -------------------------------------------------------------------------------------------- reference
def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "|" not in field.description, f"{name} would break the reference's table"


def test_the_reference_is_that_of_the_code() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == renewed(written), "python -m api.settings_reference"
    with pytest.raises(ValueError, match="no table of settings"):
        renewed("# Settings")
