"""Files complete or not at all, one process at a time in a folder; types of what files contain; texts and tables."""

from cry_lightning.files.contents import (
    CHECKPOINT,
    TRUNCATED,
    Checkpoint,
    Config,
    Json,
    Stamp,
    kind_of,
    read_object,
    sha256,
    stamp,
)
from cry_lightning.files.names import nfc, safe_name
from cry_lightning.files.tables import named_columns, read_table, read_text
from cry_lightning.files.writing import (
    LOCK,
    locked,
    replacing,
    replacing_folder,
    waited_for,
    way_out,
    whole,
    write_json,
    write_table,
    write_text,
)

__all__ = [
    "CHECKPOINT",
    "LOCK",
    "TRUNCATED",
    "Checkpoint",
    "Config",
    "Json",
    "Stamp",
    "kind_of",
    "locked",
    "named_columns",
    "nfc",
    "read_object",
    "read_table",
    "read_text",
    "replacing",
    "replacing_folder",
    "safe_name",
    "sha256",
    "stamp",
    "waited_for",
    "way_out",
    "whole",
    "write_json",
    "write_table",
    "write_text",
]
