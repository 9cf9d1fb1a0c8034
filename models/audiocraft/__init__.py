"""Reads checkpoints in the format of audiocraft, whose code is not needed for that."""
