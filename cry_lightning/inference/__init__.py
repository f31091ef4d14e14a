"""Trained stages at work on recordings: the scores of `predict`, the embeddings of `embed`."""
