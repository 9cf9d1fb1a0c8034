"""What the music listens to."""
