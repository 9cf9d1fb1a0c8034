"""Training of the tiny model: codebooks, codec, text encoder and decoder, each one seeded, resumable command."""
