"""``benchmarks/gpu.sh``: what the engine does on a GPU, in one run: first whether it is right, then how fast it is."""
