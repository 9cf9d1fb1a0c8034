"""Checkpoints in audiocraft's format are the same models, and what is wrong with one is said by its own names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from torch import Tensor

from models.audiocraft.archive import read_values
from models.checkpoint import Checkpoint, load_checkpoint
from models.checkpoint_files import CheckpointFiles
from models.conditioning.text import TextConditioner
from models.encodec.decoder import EncodecDecoder
from models.errors import CheckpointError
from models.musicgen.decoder import MusicGenDecoder
from tests.audiocraft_files import CODEC, TEXT_ENCODER, codec_settings, compression_file, export, save
from tests.factories import make_checkpoint

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "text_hidden": 16, "ratios": (4, 2)}
PROMPT = "a slow piano, with bass and drums"

Edit = Callable[[Callable[[dict[str, Any]], object]], None]


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("mono"), **SHAPE, seed=1)


@pytest.fixture(scope="module")
def exported(mono: Path) -> Path:
    return export(mono, mono / "audiocraft")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture
def edit(folder: Path) -> Edit:
    """Changes ``best_state`` and ``xp.cfg``, the latter as a dictionary."""

    def change(work: Callable[[dict[str, Any]], object]) -> None:
        package = torch.load(folder / "state_dict.bin", weights_only=True)
        package["xp.cfg"] = yaml.safe_load(package["xp.cfg"])
        work(package)
        save({**package, "xp.cfg": yaml.safe_dump(package["xp.cfg"])}, folder / "state_dict.bin")

    return change


def refusal(place: Path | CheckpointFiles) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(place)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------- the same model


def states(checkpoint: Checkpoint) -> dict[str, Mapping[str, Tensor]]:
    projection = checkpoint.enc_to_dec_proj or {}
    return {"decoder": checkpoint.decoder_state, "text": checkpoint.text_state, "projection": projection}


@torch.inference_mode()
def logits(checkpoint: Checkpoint) -> Tensor:
    """Of three steps of a row with text and one without."""
    decoder, text = MusicGenDecoder.from_checkpoint(checkpoint), TextConditioner.from_checkpoint(checkpoint)
    cache = decoder.new_cache(6, 2)
    handles = [cache.allocate(3) for _ in range(2)]
    cache.set_cross(handles[0], decoder.cross_kv(decoder.project_text(text.encode(PROMPT))))
    view, codebooks = cache.view(handles), checkpoint.config.decoder.num_codebooks
    codes = [torch.full((2, codebooks), fill) for fill in (checkpoint.config.decoder.special_token, 1, 2)]
    return torch.stack([decoder.forward_step(codes[step], torch.full((2,), step), view) for step in range(3)])


@pytest.mark.parametrize("stereo", [False, True])
@pytest.mark.parametrize("codec_inside", [False, True])
def test_both_formats_are_the_same_model(stereo: bool, codec_inside: bool, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "ours", **SHAPE, stereo=stereo, seed=2, lstm_layers=2)
    ours = load_checkpoint(folder)
    theirs = load_checkpoint(export(folder, tmp_path / "theirs", codec_inside=codec_inside))
    assert theirs.config == ours.config
    for part, state in states(ours).items():
        same = states(theirs)[part]
        assert same.keys() == state.keys()
        assert all(torch.equal(same[name], state[name]) for name in state)
    assert torch.equal(logits(theirs), logits(ours))
    codes = torch.randint(0, ours.config.codec.codebook_size, (1, 4, 20), generator=torch.Generator().manual_seed(3))
    first, second = (EncodecDecoder.from_checkpoint(each).decode(codes) for each in (ours, theirs))
    assert torch.equal(first, second)
    assert first.abs().max() > 0.01


def test_what_is_read_is_not_a_view_of_the_file(exported: Path) -> None:
    state = load_checkpoint(exported).decoder_state
    name = "model.decoder.layers.0.self_attn.k_proj.weight"
    assert state[name].data_ptr() != state[name].data_ptr()
    assert state[name].untyped_storage().nbytes() == state[name].nbytes


# --------------------------------------------------------------------------------------- every tensor accounted for


def test_any_missing_tensor_is_named_as_audiocraft_names_it(folder: Path, edit: Edit) -> None:
    state = torch.load(folder / "state_dict.bin", weights_only=True)["best_state"]
    by_kind = {re.sub(r"\d+", "N", name): name for name in state}  # one of each kind
    assert len(by_kind) == 15
    for name in by_kind.values():
        edit(lambda package, name=name: package["best_state"].pop(name))  # type: ignore[misc]
        assert f"has no tensor best_state.{name}," in refusal(folder)
        edit(lambda package, name=name: package["best_state"].update({name: state[name]}))  # type: ignore[misc]
    load_checkpoint(folder)


@pytest.mark.parametrize(
    "name",
    [
        "transformer.layers.2.linear1.weight",
        "transformer.layers.0.linear1.bias",
        "emb.4.weight",
        "condition_provider.conditioners.self_wav.output_proj.weight",
        "stray",
    ],
)
def test_a_left_over_tensor_is_named(folder: Path, edit: Edit, name: str) -> None:
    edit(lambda package: package["best_state"].update({name: torch.zeros(1)}))
    assert f"no place for: best_state.{name}" in refusal(folder)


def test_a_misshapen_tensor_is_named(folder: Path, edit: Edit) -> None:
    name = "transformer.layers.1.self_attn.in_proj_weight"
    edit(lambda package: package["best_state"].update({name: torch.zeros(32, 32)}))
    assert f"best_state.{name} has shape (32, 32), the config calls for (96, 32)" in refusal(folder)


@pytest.mark.parametrize("where", [CODEC, TEXT_ENCODER])
def test_a_part_without_weights_is_named(folder: Path, where: str) -> None:
    (folder / where / "model.safetensors").unlink()
    assert f"{where}/model.safetensors is missing" in refusal(folder)


# ------------------------------------------------------------------------------------- what the files say is checked


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("lm_model", "transformer_lm_magnet", "lm_model = 'transformer_lm_magnet'"),
        ("transformer_lm", None, "no section 'transformer_lm'"),
        ("transformer_lm.dim", "wide", "transformer_lm.dim = 'wide'"),
        ("transformer_lm.dim", 16, "transformer_lm.dim = 16 is the text encoder's width"),
        ("transformer_lm.norm_first", False, "transformer_lm.norm_first = False"),
        ("transformer_lm.positional_embedding", "rope", "positional_embedding = 'rope'"),
        ("transformer_lm.max_period", 9, "transformer_lm.max_period = 9"),
        ("transformer_lm.novelty", 1, "transformer_lm.novelty = 1 is not a known setting"),
        ("transformer_lm.n_q", 8, "codebooks_pattern.delay.delays = [0, 1, 2, 3]"),
        ("transformer_lm.n_q", "${transformer_lm.n_q}", "refers to itself"),
        ("codebooks_pattern.modeling", "parallel", "codebooks_pattern.modeling = 'parallel'"),
        ("codebooks_pattern.delay.flatten_first", 1, "delay.flatten_first = 1"),
        ("interleave_stereo_codebooks.per_timestep", True, "per_timestep = True"),
        ("channels", 2, "channels = 2 is not supported, it must be 1"),
        ("fuser.prepend", ["description"], "fuser.prepend = ['description']"),
        ("fuser.sum", ["description"], "fuser.sum = ['description']"),
        ("conditioners.description.model", "clap", "conditioners.description.model = 'clap'"),
        ("conditioners.description.t5.finetune", True, "t5.finetune = True"),
        ("conditioners.description.t5.normalize_text", True, "t5.normalize_text = True"),
        ("conditioners.description.t5.name", "", "t5.name is missing"),
        (
            "conditioners.chords",
            {"model": "chords_emb"},
            "no MusicGen has the conditioners chords: chords_emb, ",
        ),
        ("conditioners.self_wav", {"model": "drum_latents"}, "self_wav: drum_latents"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(
    path: str, value: object, complaint: str, folder: Path, edit: Edit
) -> None:
    edit(lambda package: place(package["xp.cfg"], path, value))
    message = refusal(folder)
    assert complaint in message
    assert str(folder / "state_dict.bin") in message


def place(settings: dict[str, Any], path: str, value: object) -> None:
    *sections, key = path.split(".")
    for name in sections:
        settings = settings[name]
    settings[key] = value


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("compression_model", "dac", "compression_model = 'dac'"),
        ("encodec.quantizer", "no_quant", "encodec.quantizer = 'no_quant'"),
        ("encodec.sample_rate", "fast", "encodec.sample_rate = 'fast'"),
        ("seanet.true_skip", False, "seanet.true_skip = False"),
        ("seanet.ratios", [4, 0], "seanet.ratios = [4, 0]"),
        ("seanet.novelty", 1, "seanet.novelty = 1 is not a known setting"),
        ("rvq.n_q", 2, "the codec has 2"),
    ],
)
def test_a_codec_setting_that_is_not_supported_is_named(
    path: str, value: object, complaint: str, mono: Path, folder: Path
) -> None:
    settings = codec_settings(json.loads((mono / "config.json").read_text())["audio_encoder"])
    place(settings, path, value)
    save({"best_state": {}, "xp.cfg": yaml.safe_dump(settings)}, compression_file(folder))
    assert complaint in refusal(folder)


# ------------------------------------------------------------------------------------- what the files only point to


def test_a_codec_or_text_encoder_that_is_nowhere_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.move(folder / TEXT_ENCODER, tmp_path / "moved")
    message = refusal(folder)
    for part in ("only names its text encoder, 't5-base'", f"{folder}/t5-base", f"{tmp_path}/t5-base"):
        assert part in message
    assert f"{tmp_path / 'cache'}: put its folder there, fetch it with `hf download google-t5/t5-base`" in message
    assert "--text-encoder FOLDER" in message
    shutil.move(tmp_path / "moved", folder / TEXT_ENCODER)
    shutil.rmtree(folder / CODEC)
    assert "`hf download facebook/encodec_32khz`, or add the model with --codec FOLDER" in refusal(folder)


@pytest.mark.parametrize("name", ["/data/my-t5", "my--t5", "a/b/my-t5"])
def test_a_name_that_no_hub_knows_is_said(name: str, folder: Path, edit: Edit) -> None:
    edit(lambda package: package["xp.cfg"]["conditioners"]["description"]["t5"].update(name=name))
    message = refusal(folder)
    assert f"only names its text encoder, '{name}'" in message
    assert "hf download" not in message


@pytest.mark.parametrize("where", ["beside", "cached", "given"])
def test_a_codec_and_a_text_encoder_are_found(
    where: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    places = {
        "beside": (tmp_path / CODEC, tmp_path / TEXT_ENCODER),
        "cached": (cached(tmp_path, f"facebook/{CODEC}"), cached(tmp_path, f"google-t5/{TEXT_ENCODER}")),
        "given": (tmp_path / "my codec", tmp_path / "my text encoder"),
    }[where]
    for name, new in zip((CODEC, TEXT_ENCODER), places, strict=True):
        shutil.move(folder / name, new)
    files = CheckpointFiles(folder, *places) if where == "given" else CheckpointFiles(folder)
    checkpoint = load_checkpoint(files)
    assert checkpoint.tokenizer_folder == places[1]
    assert len(TextConditioner.from_checkpoint(checkpoint).encode(PROMPT)) > 5


def cached(cache_parent: Path, hub_id: str) -> Path:
    """Where the hub's cache keeps a model's only version."""
    commit, model = "0" * 40, cache_parent / "cache" / f"models--{hub_id.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots").mkdir()
    return model / "snapshots" / commit


def test_a_folder_that_is_given_and_holds_no_model_is_named(folder: Path, tmp_path: Path) -> None:
    assert f"{tmp_path} is no codec" in refusal(CheckpointFiles(folder, codec=tmp_path))
    assert f"{tmp_path} is no text encoder" in refusal(CheckpointFiles(folder, text_encoder=tmp_path))


# --------------------------------------------------------------------------------------------------- broken and evil


class Evil:
    """What a pickle may do to whoever reads it without care."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never be read out",))


def test_a_file_that_would_run_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save({**package, "version": Evil()}, folder / "state_dict.bin")
    assert re.search(r"holds [\w.]*print, and only tensors and plain values are read", refusal(folder))
    torch.save({"best_state": OrderedDict(x=Evil()), "xp.cfg": package["xp.cfg"]}, folder / "state_dict.bin")
    assert "only tensors and plain values are read" in refusal(folder)
    assert capsys.readouterr().out == ""


def test_broken_files_are_named(folder: Path) -> None:
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        file, content = folder / name, (folder / name).read_bytes()
        for broken in (content[: len(content) // 2], content[:-30], b"", b"\xff" * 1000):
            file.write_bytes(broken)
            assert f"{file} was not written by torch.save, or was cut short" in refusal(folder)
        file.write_bytes(content)
    file = folder / "state_dict.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(K\x01e.")  # appends to a dictionary
    assert f"{file} can not be read" in refusal(folder)
    marked = bytearray(file.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        marked[marked.index(header) + flags] |= 1  # encrypted, so it says
    file.write_bytes(marked)
    assert f"{file} can not be read" in refusal(folder)
    torch.save([1, 2], folder / "state_dict.bin")
    assert "must hold a dictionary" in refusal(folder)
    compression_file(folder).unlink()
    (folder / "state_dict.bin").unlink()
    assert "config.json is missing, and so is state_dict.bin" in refusal(folder)


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        ({}, "holds no xp.cfg"),
        ({"xp.cfg": "a: [1"}, "is not YAML"),
        ({"xp.cfg": "- 1"}, "must be a YAML mapping"),
    ],
)
def test_a_broken_configuration_is_named(package: dict[str, Any], complaint: str, folder: Path) -> None:
    save(package, folder / "state_dict.bin")
    assert complaint in refusal(folder)


def test_a_package_without_tensors_is_named(folder: Path, edit: Edit) -> None:
    edit(lambda package: package.pop("best_state"))
    assert "has no best_state of tensors" in refusal(folder)


def test_a_codec_without_its_file_is_named(folder: Path) -> None:
    compression_file(folder).unlink()
    assert "compression_state_dict.bin is missing" in refusal(folder)


def test_values_are_read_as_torch_reads_them(folder: Path) -> None:
    ours, theirs = (read(folder / "state_dict.bin") for read in (read_values, torch.load))
    assert ours.keys() == theirs.keys()
    assert ours["best_state"].keys() == theirs["best_state"].keys()
    assert {name: ours[name] for name in ("xp.cfg", "version", "exported")} == {
        name: theirs[name] for name in ("xp.cfg", "version", "exported")
    }


def test_the_configuration_is_read_without_torch(exported: Path) -> None:
    code = (
        "import sys; from models.config import ModelConfig; "
        f"print(ModelConfig.from_folder({str(exported)!r}).channels, {{'torch', 'transformers'}} & set(sys.modules))"
    )
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1 set()"
