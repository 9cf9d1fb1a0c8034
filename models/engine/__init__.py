"""Continuous batching: requests of any length join and leave at any step."""
