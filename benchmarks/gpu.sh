#!/usr/bin/env bash
# What the engine does on a GPU: first whether it is right, then how fast it is, beside its peers. Under nine minutes.
# Needs models/ and benchmarks/ with torch, transformers and triton. The result is JSON in $OUT (benchmarks/results/
# without it); a short table comes last. Without a GPU:  benchmarks/gpu.sh --device cpu --shape tiny --quick
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.gpu.run --out "${OUT:-benchmarks/results}" "$@"
