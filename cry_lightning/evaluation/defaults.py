"""Defaults that the help of commands shows; nothing here takes time to import."""

from pathlib import Path

COMPARISON = Path("runs/comparison")  # where the report of several runs goes
POSITIVE = "that of sensitivity; unless named, the rarer one in all of predictions.csv, val and test"
