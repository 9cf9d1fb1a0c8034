"""Kernels in Triton: for NVIDIA GPUs, and for any CPU in Triton's interpreter (``TRITON_INTERPRET=1``, for tests)."""
