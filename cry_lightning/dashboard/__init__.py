"""Weights & Biases: what goes there, the runs that later commands add to, and views of them."""
