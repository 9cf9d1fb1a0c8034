"""The CPU kernel: matrices in every format against torch, in what the machine can do best and in portable vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.kernels.cpu import build as building
from models.kernels.cpu import packing
from models.kernels.cpu.build import KernelUnavailableError, build, chosen_variant
from models.kernels.cpu.library import Kernel, kernel
from models.kernels.cpu.packing import FORMATS, pack, quantise

VARIANTS = tuple(building.VARIANTS)
# float32 sums in another order; bfloat16 products are exact once the activations are bfloat16.
TOLERANCE = 1e-4


def weight_of(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    return 0.05 * torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


def activations(rows: int, inputs: int) -> Tensor:
    """Of bfloat16's precision, so that no path rounds them."""
    return torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows)).bfloat16().float()


def stands_for(weight: Tensor, name: str) -> Tensor:
    """The numbers that are multiplied with."""
    if name == "fp32":
        return weight
    return weight.bfloat16().float() if name == "bf16" else quantise(weight, name).dequantise()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FORMATS)
def test_products_are_those_of_the_rounded_weights(name: str, variant: str) -> None:
    weight, compiled = weight_of(112, 192), kernel(variant)
    packed = pack(weight, name, compiled.path)
    for rows in (1, 2, 3, 4, 7, 8, 9, 17):
        x = activations(rows, 192)
        torch.testing.assert_close(
            compiled.multiply(packed, x), x @ stands_for(weight, name).T, rtol=TOLERANCE, atol=TOLERANCE
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_row_is_the_same_to_the_last_bit_beside_any_others_and_on_any_threads(name: str, variant: str) -> None:
    compiled = kernel(variant)
    packed, x = pack(weight_of(112, 128), name, compiled.path), torch.randn(19, 128)
    together = compiled.multiply(packed, x)
    for rows in range(1, 19):
        assert torch.equal(compiled.multiply(packed, x[:rows]), together[:rows]), f"{rows} rows"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 2)
        assert torch.equal(compiled.multiply(packed, x), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_extremes_and_empty_groups_survive(name: str) -> None:
    weight = weight_of(32, 128)
    weight[0] = 0.0
    weight[1, :64] = 0.0
    weight[2, 5], weight[3, 70] = 3.0, -3.0
    made = quantise(weight, name).dequantise()
    assert bool(made.isfinite().all())
    assert torch.equal(made[0], torch.zeros(128))
    assert torch.equal(made[1, :64], torch.zeros(64))
    torch.testing.assert_close(
        made[[2, 3], [5, 70]], weight[[2, 3], [5, 70]], rtol=0.01 if name == "int8" else 0.3, atol=0
    )
    compiled, x = kernel(), activations(2, 128)
    torch.testing.assert_close(
        compiled.multiply(pack(weight, name, compiled.path), x), x @ made.T, rtol=TOLERANCE, atol=TOLERANCE
    )


def test_int8_is_laid_out_some_rows_at_a_time_as_it_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weight_of(112, 128)
    whole = pack(weight, "int8", "avx512_bf16")
    monkeypatch.setattr(packing, "_AT_ONCE", 48 * 128)
    for made in (whole, pack(weight, "int8", "avx512_bf16")):
        coded = made.data.view(7, 32, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(112, 128)
        levels = (coded & 127).to(torch.int8) * torch.where(coded > 127, -1, 1).to(torch.int8)
        assert torch.equal(levels, quantise(weight, "int8").levels)
        assert torch.equal(made.scales, quantise(weight, "int8").scales[:, 0])


def test_finer_formats_are_closer() -> None:
    weight = weight_of(256, 256)
    error = {name: float((stands_for(weight, name) - weight).norm() / weight.norm()) for name in FORMATS}
    assert 0 == error["fp32"] < error["bf16"] < error["int8"] < 0.01 < error["int4"] < 0.1


# ------------------------------------------------------------------------------------------------ where it can not run


def test_it_can_be_switched_off_and_a_wrong_word_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_CPU_KERNEL", "off")
    with pytest.raises(KernelUnavailableError, match="TUTTI_CPU_KERNEL=off"):
        chosen_variant()
    monkeypatch.setenv("TUTTI_CPU_KERNEL", "fast")
    with pytest.raises(KernelUnavailableError, match="native, portable or off, got 'fast'"):
        chosen_variant()


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(KernelUnavailableError, match=r"no C\+\+ compiler \(g\+\+, clang\+\+, c\+\+\): install g\+\+"):
        build()


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken++"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such instruction' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("TUTTI_KERNEL_CACHE", str(tmp_path / "kernels"))
    with pytest.raises(KernelUnavailableError, match="could not compile the CPU kernel:\nno such instruction"):
        build()
    assert list((tmp_path / "kernels").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTTI_KERNEL_CACHE", str(tmp_path / "file" / "kernels"))
    with pytest.raises(KernelUnavailableError, match="set TUTTI_KERNEL_CACHE to a folder that can be written"):
        build()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "step.so"
    file.write_bytes(b"cut short")
    with pytest.raises(KernelUnavailableError, match="delete the file, it is made anew"):
        Kernel(file)


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a compiler that only counts; the real one made what the tests above multiplied with."""
    compiler, calls, kernels = tmp_path / "count++", tmp_path / "calls", tmp_path / "kernels"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\n'
        f'echo compiled >> {calls}\nwhile [ "$1" != -o ]; do shift; done\necho kernel > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TUTTI_KERNEL_CACHE", str(kernels))
    made = build("portable")
    assert made.read_text() == "kernel\n"
    assert build("portable") == made
    assert calls.read_text() == "compiled\n"
    assert list(kernels.iterdir()) == [made]


def test_one_openmp_runtime_serves_torch_and_the_kernel() -> None:
    """Two would have two teams of threads, which wait for one another by spinning."""
    look = (
        "import torch; from models.kernels.cpu.library import kernel; kernel(); "
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line})"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=120)
    assert len(done.stdout.split()) == 1, done.stdout
