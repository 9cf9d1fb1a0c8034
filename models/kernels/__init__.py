"""Kernels of our own, where torch's are not enough."""
