"""The composer that writes the training music of the tiny model: score, sound and captions from one seed."""
