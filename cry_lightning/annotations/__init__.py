"""Stretches of recordings that people or networks marked: read, written, found in scores, compared."""

from cry_lightning.annotations.files import (
    FORMS as FORMS,
    Interval as Interval,
    find as find,
    matched as matched,
    names_for as names_for,
    of_label as of_label,
    read as read,
    write as write,
)
