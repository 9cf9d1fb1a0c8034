"""A model's weights as the CPU's kernels read them, kept in one file and mapped by every replica of a machine."""
