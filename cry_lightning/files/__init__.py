"""Files complete or not at all, one process at a time in a folder; types of what files contain; texts and tables."""

from cry_lightning.files.contents import (
    CHECKPOINT as CHECKPOINT,
    TRUNCATED as TRUNCATED,
    Checkpoint as Checkpoint,
    Config as Config,
    Json as Json,
    Stamp as Stamp,
    kind_of as kind_of,
    read_object as read_object,
    read_object_if_any as read_object_if_any,
    sha256 as sha256,
    stamp as stamp,
)
from cry_lightning.files.names import nfc as nfc, safe_name as safe_name
from cry_lightning.files.tables import named_columns as named_columns, read_table as read_table, read_text as read_text
from cry_lightning.files.writing import (
    LOCK as LOCK,
    MADE_FROM as MADE_FROM,
    MOVING as MOVING,
    OLDER as OLDER,
    locked as locked,
    replacing as replacing,
    replacing_folder as replacing_folder,
    waited_for as waited_for,
    way_out as way_out,
    whole as whole,
    write_json as write_json,
    write_table as write_table,
    write_text as write_text,
)
