"""The platform's API under load, with everything real but the music."""
