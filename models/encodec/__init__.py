"""The codec's decoder: codes become samples, whole clips or exact streams."""
