"""``tutti models``: what a deployment may serve, where it comes from, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from api.cli_admin_run import AsJson, show
from api.cli_output import CliError, print_json, stderr, usage_error

if TYPE_CHECKING:
    from models.catalog_file import Catalog, Entry
    from models.checkpoint_files import CheckpointFiles
    from models.variants import Variant

models = typer.Typer(help="The catalog of models: add, list and check them.", no_args_is_help=True)

_COLUMNS = ("name", "variant", "format", "size", "licence", "files", "serves")
_FORMATS = ("transformers", "audiocraft")


@models.command("add")
def add_model(
    source: Annotated[str, typer.Argument(metavar="PATH|HUB_ID", help="A checkpoint's folder, or OWNER/NAME.")],
    name: Annotated[str | None, typer.Option(help="How it is asked for; default: the folder's or the hub's.")] = None,
    codec: Annotated[Path | None, typer.Option(help="audiocraft format: folder of the codec (encodec_32khz).")] = None,
    text_encoder: Annotated[Path | None, typer.Option(help="audiocraft format: folder of the text encoder.")] = None,
    style_encoder: Annotated[Path | None, typer.Option(help="Style models: folder of MERT (MERT-v1-95M).")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub: branch, tag or commit.")] = None,
    wanted: Annotated[str | None, typer.Option("--format", help="Hub: transformers or audiocraft.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; default: what the checkpoint tells.")] = None,
    replaces: Annotated[bool, typer.Option("--replace", help="The name may be another model's now.")] = False,
    json: AsJson = False,
) -> None:
    """Put a model into the catalog, so that serve_config.yaml can say `checkpoint: NAME`.

    A hub id is downloaded into the hub's cache first (HF_HOME); a download that was cut off goes on where it stopped.
    The sha256 of every file is kept, for `tutti models check`.
    """
    from models.catalog import BUILT_IN, licence_of
    from models.catalog_file import Catalog, Entry, check_name
    from models.checkpoint_files import CheckpointFiles
    from models.config import ModelConfig
    from models.variants import recognise

    if wanted is not None and wanted not in _FORMATS:
        raise usage_error(f"--format is one of {', '.join(_FORMATS)}, got {wanted!r}")
    chosen, catalog = check_name(name or Path(source).name.lower()), Catalog.load()
    if chosen in BUILT_IN:
        raise usage_error(f"{chosen!r} is the name of a model that comes with the repository: give --name")
    given = CheckpointFiles(Path(source), codec, text_encoder, style_encoder)
    files, commit = _files(source, given, revision, wanted)
    here = catalog.entries.get(chosen)
    if here is not None and not replaces and catalog.place(here.path) != files.folder.absolute():
        raise usage_error(f"{chosen!r} is {here.source or here.path} already: give --name, or --replace to let it go")
    config = ModelConfig.from_folder(files)
    variant = recognise(config)
    with _reading(f"Reading {chosen}", files) as progress:
        records = catalog.record(files, progress)
    entry = Entry(
        path=catalog.path_to(files.folder),
        format=str(files.format),
        licence=licence or licence_of(files, config),
        files=records,
        codec=None if files.codec is None else catalog.path_to(files.codec),
        text_encoder=None if files.text_encoder is None else catalog.path_to(files.text_encoder),
        style_encoder=None if files.style_encoder is None else catalog.path_to(files.style_encoder),
        source=None if commit is None else source,
        revision=commit,
        variant=None if variant is None else variant.name,
        added_at=_now(),
    )
    catalog = catalog.put(chosen, entry)
    fields = _fields(catalog, chosen)
    if json:
        print_json({**fields, "catalog": str(catalog.file)})
        return
    told = f"{chosen}: {_kind(variant)}, {entry.format} format, {_megabytes(entry.size)}; licence: {entry.licence}."
    typer.echo(f"{told} {len(records)} files recorded in {catalog.file}.")
    typer.echo(f"Try it: tutti models check {chosen}. Serve it: `checkpoint: {chosen}` in serve_config.yaml.")


@models.command("list")
def list_models(json: AsJson = False) -> None:
    """List the catalog: what each model is, its licence, and whether its files are as they were.

    files: `checked` and unchanged since, by size and time; `recorded` and never checked; `touched` since; `missing`.
    """
    from models.catalog import BUILT_IN
    from models.catalog_file import Catalog

    catalog = Catalog.load()
    rows = [*map(_built_in, BUILT_IN), *(_fields(catalog, name) for name in sorted(catalog.entries))]
    if not json:
        rows = [{**row, "size": _megabytes(row["size"])} for row in rows]
    show(rows, _COLUMNS, as_json=json)


@models.command("check")
def check_model(
    model: Annotated[str, typer.Argument(help="A name of the catalog, tiny, or a checkpoint's folder.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    weights: Annotated[str | None, typer.Option(help="fp32, bf16, int8 or int4, which need less memory.")] = None,
    json: AsJson = False,
) -> None:
    """Read every file again, load the model with every tensor checked, and make two seconds of music.

    Exit 1 if a file is not what it was when the model was added, or what comes out is no music.
    """
    from models.catalog import licence_of, locate
    from models.catalog_file import Catalog
    from models.config import ModelConfig
    from models.engine_config import EngineConfig
    from models.errors import CheckpointError
    from models.variants import recognise

    engine = EngineConfig(device=device, weights=weights)
    files, catalog = locate(model), Catalog.load()
    try:
        hashes = _verified(catalog, model, files)
        config = ModelConfig.from_folder(files)
        with stderr.status(f"Loading {model} …"):
            from models.engine.trial import try_out

            trial = try_out(files, engine)
    except CheckpointError as error:
        raise CliError(f"{model}: {error}", "checkpoint_error") from error
    licence, variant = licence_of(files, config), recognise(config)
    if json:
        name = None if variant is None else variant.name
        print_json({"model": model, "variant": name, "licence": licence, "files": hashes, **asdict(trial)})
        return
    typer.echo(f"{model}: {_kind(variant)}, {files.format} format; licence: {licence}")
    typer.echo(f"files: {hashes}")
    typer.echo("tensors: all there, each of the shape that the configuration calls for")
    speed = f"2 s in {trial.generation_s:.2f} s ({trial.real_time_factor:.1f}× real time)"
    sound = f"{trial.sample_rate} Hz, {trial.channels} channel(s), peak {trial.peak:.2f}, rms {trial.rms:.3f}"
    given = " and a ".join(("text", *trial.heard))
    typer.echo(f"music: {speed} with {given} after {trial.load_s:.1f} s of loading; {sound}")


def _files(
    source: str, given: CheckpointFiles, revision: str | None, wanted: str | None
) -> tuple[CheckpointFiles, str | None]:
    """Where the checkpoint lies, fetched if need be, and the hub's commit.

    Args:
        given: folders of its parts, as far as they were named.
    """
    from models.checkpoint_files import Format

    if Path(source).is_dir():
        if revision is not None or wanted is not None:
            raise usage_error("--revision and --format are for the hub, and this is a folder")
        return replace(given, folder=Path(source).absolute()), None
    from models.hub import Hub, is_hub_id, revision_of

    if not is_hub_id(source):
        raise usage_error(f"{source!r} is neither a folder nor an id of the hub (OWNER/NAME)")
    files = Hub().fetch(source, revision, None if wanted is None else Format(wanted))
    parts = {name: getattr(given, name) for name in ("codec", "text_encoder", "style_encoder")}
    named = {name: folder for name, folder in parts.items() if folder is not None}
    return replace(files, **named), revision_of(files.folder)


def _verified(catalog: Catalog, model: str, files: CheckpointFiles) -> str:
    """What was found about the files; a good result is written into the catalog."""
    if model not in catalog.entries:
        return "not in the catalog, so there is nothing to compare them with"
    with _reading(f"Reading {model}", files) as progress:
        records = catalog.verify(model, progress)
    found = f"{len(records)}, sha256 as recorded when it was added"
    try:
        catalog.put(model, replace(catalog.entries[model], files=records, checked_at=_now()))
    except OSError as error:  # a server may have it mounted read-only
        return f"{found}; that can not be noted down in {catalog.file}: {error.strerror}"
    return found


def _fields(catalog: Catalog, name: str) -> dict[str, Any]:
    entry: Entry = catalog.entries[name]
    fields = {**asdict(entry), "name": name, "size": entry.size, "path": str(catalog.place(entry.path))}
    hashes = {path: record.sha256 for path, record in entry.files.items()}
    return {**fields, "files": catalog.state(name), "sha256": hashes, "serves": _serves(catalog.files_of(name))}


def _built_in(name: str) -> Mapping[str, Any]:
    from models.catalog import BUILT_IN, describe
    from models.checkpoint_files import CheckpointFiles, files_that_matter

    files = CheckpointFiles(BUILT_IN[name])
    size = sum(file.stat().st_size for file in files_that_matter(files.folder, files.format))
    return {
        "name": name,
        "variant": None,
        "format": str(files.format),
        "size": size,
        "licence": describe(files).licence,
        "files": "built in",
        "serves": _serves(files),
        "path": str(files.folder),
    }


def _serves(files: CheckpointFiles) -> str:
    from models.config import ModelConfig
    from models.errors import CheckpointError

    try:
        ModelConfig.from_folder(files)
    except CheckpointError as error:
        return f"no: {error}"
    return "yes"


@contextmanager
def _reading(what: str, files: CheckpointFiles) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal: gigabytes take a while."""
    from models.checkpoint_files import files_that_matter, parts_of

    total = sum(file.stat().st_size for part in parts_of(files) for file in files_that_matter(*part))
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


def _kind(variant: Variant | None) -> str:
    return "a model of its own shape" if variant is None else f"of the shape of musicgen-{variant.name}"


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
