"""Stretches of recordings that people or networks marked: read, written, found in scores, compared."""

from cry_lightning.annotations.files import FORMS, Interval, find, matched, names_for, of_label, read, write

__all__ = ["FORMS", "Interval", "find", "matched", "names_for", "of_label", "read", "write"]
