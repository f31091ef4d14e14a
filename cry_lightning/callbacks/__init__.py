"""What a run leaves behind: last.ckpt, its lineage, its predictions, and curves and pictures in W&B."""
