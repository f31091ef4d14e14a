"""From a corpus to batches: cache, splits, loader and the one datamodule."""
