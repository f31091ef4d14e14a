"""Trained stages for other programs: from waveforms to probabilities and embeddings, the front end included."""
