"""Multi-stage training for infant-cry analysis: pretrain, fine-tune and evaluate, honest about subjects."""

__version__ = "0.1.0"
