"""The transformer: codes of one step to logits of the next. It knows no requests."""
