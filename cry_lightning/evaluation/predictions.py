"""The predictions table: all that evaluation knows of a model, whatever kind of model made it."""

from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd
import yaml

from cry_lightning.commands.configs import Loader
from cry_lightning.console import UserError, for_spreadsheets, from_cell
from cry_lightning.files import kind_of, named_columns, nfc, replacing
from cry_lightning.lineage.spelling import own_part

KEYS = ("clip", "recording", "subject", "repeat", "fold", "split", "label")
SOURCE = "subject_source"  # how a clip's subject is known; tables of older releases have no such column
SOURCES = ("given", "rule", "stand-in", "unknown", "")  # the last: not recorded
SPLITS = ("val", "test")
SCORE = "score_"
SUM_TOLERANCE = 1e-3
AS_WRITTEN = "give the predictions.csv as the test wrote it"
OTHERS = {";": "semicolons", "\t": "tabs"}  # between columns
OTHER_ENCODING = "another encoding, as a spreadsheet may save it"
PRETRAININGS = ("SimCLR", "MaskedPrediction")  # tasks without a test


def score_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold one probability per class, in the table's order."""
    return [column for column in table.columns if column.startswith(SCORE)]


def classes_of(table: pd.DataFrame) -> list[str]:
    """Class names, in the order of their score columns."""
    return [column.removeprefix(SCORE) for column in score_columns(table)]


def find(given: str) -> Path:
    """The predictions table of a run, which the user gave by its folder or by that table.

    Raises:
        UserError: there is none.
    """
    path = Path(given)
    if not path.exists():
        raise UserError(f"{path}: no such run; `python -m cry_lightning fit` and then `test` make one")
    if not path.is_dir():
        return path
    if not (path / "predictions.csv").exists():
        raise UserError(f"{path}: no predictions.csv; {_way_to_predictions(path)}")
    return path / "predictions.csv"


def _way_to_predictions(folder: Path) -> str:
    if (folder / "config.yaml").exists():
        if _task_of(folder / "config.yaml") in PRETRAININGS:
            return "it is a pretraining, of which there is nothing to evaluate; probe or fine-tune it"
        return f"`python -m cry_lightning test --config {quote(str(folder / 'config.yaml'))}` makes it"
    inside = [*folder.glob("*/predictions.csv"), *folder.glob("*/*/predictions.csv")]
    return f"name a run, such as {min(inside).parent}" if inside else "name the folder of a run, or a predictions.csv"


def _task_of(config: Path) -> str:
    """Name of the class that a run's config trains; empty where it cannot be read."""
    try:
        return str(yaml.load(config.read_text(encoding="utf-8"), Loader)["model"]["class_path"]).rpartition(".")[2]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return ""


def read(path: str | Path) -> pd.DataFrame:
    """A checked predictions table; scores are float64, every other column is text. `SOURCE` is added where it lacks.

    Raises:
        UserError: the file cannot be read as such a table.
    """
    path = Path(path)
    try:
        table = _as_written(path)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: the file is empty; run the test that writes it again") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        found = OTHER_ENCODING if isinstance(error, UnicodeDecodeError) else str(error).strip().splitlines()[-1]
        reason = kind_of(path).replace("text", "") or found
        raise UserError(f"{path}: not a CSV table in UTF-8 ({reason}); give the predictions.csv of a run") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the predictions.csv of a run") from error
    for column in set(KEYS) & set(table.columns):
        if table[column].str.startswith("'").any():
            table[column] = table[column].map(from_cell)
        if not all(map(str.isascii, table[column].unique())):  # as another computer may have spelled them
            table[column] = table[column].map(nfc)
    table = with_source(table)
    check(table, path)
    return table


def with_source(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `SOURCE`: where that is missing, subjects named after their recording are unknown, no more."""
    if SOURCE in table.columns or not {"subject", "recording"} <= set(table.columns):
        return table
    source = np.where(table["subject"].map(own_part).map(nfc) == table["recording"].map(nfc), "unknown", "")
    return table.assign(**{SOURCE: source})


def _as_written(path: Path) -> pd.DataFrame:
    """The table, with text as it stands: a class or a subject may well be called "NA" or "007"."""
    columns = _header(path)
    kinds = {column: float if column.startswith(SCORE) else str for column in columns}
    try:
        return pd.read_csv(path, dtype=kinds, keep_default_na=False).copy()  # in one piece, or all later work is slow
    except ValueError as error:
        if isinstance(error, (pd.errors.ParserError, UnicodeDecodeError)):
            raise
    table = pd.read_csv(path, dtype=str, keep_default_na=False)  # slow and large, but shows which line is not a number
    for column in score_columns(table):
        if table[column].str.fullmatch(r"\s*\d*,\d+\s*").any():
            raise UserError(f"{path}: {column} has decimal commas, as a spreadsheet may save it; {AS_WRITTEN}")
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def _header(path: Path) -> list[str]:
    """The names of the columns, each once."""
    columns = pd.read_csv(path, dtype=str, header=None, nrows=1, keep_default_na=False).iloc[0].tolist()
    if len(columns) == 1 and (between := next((name for mark, name in OTHERS.items() if mark in columns[0]), "")):
        raise UserError(
            f"{path}: has {between} between its columns, as a spreadsheet may save it, not commas; {AS_WRITTEN}"
        )
    return named_columns(path, columns, ())


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Check a predictions table and write it whole or not at all; float32 scores survive exactly.

    Raises:
        UserError: the table breaks the rules that `read` enforces.
    """
    table = with_source(table)
    check(table, Path(path))
    with replacing(Path(path)) as part:
        safe = for_spreadsheets(table[[*KEYS, SOURCE, *score_columns(table)]])
        safe.to_csv(part, index=False, float_format="%.9g")


def check(table: pd.DataFrame, path: Path) -> None:
    """Refuse a table that does not keep to the columns and values agreed on.

    Raises:
        UserError: names the file, the column or line at fault, and the way out.
    """
    missing = [column for column in KEYS if column not in table.columns]
    if missing:
        header = ",".join([*KEYS, f"{SCORE}<class>,..."])
        raise UserError(f"{path}: no column {', '.join(missing)}; the header must be {header}")
    names = score_columns(table)
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise UserError(f"{path}: needs a column {SCORE}<class> for each of at least two classes, found {found}")
    if table.empty:
        raise UserError(f"{path}: has a header but no rows; run the test that writes it again")

    for column in KEYS:
        _refuse_rows(table[column].isna() | (table[column].astype(str) == ""), path, f"{column} is empty; fill it in")
    _refuse_rows(~table["split"].isin(SPLITS), path, f"split must be one of {', '.join(SPLITS)}")
    known = classes_of(table)
    for label in sorted(set(table["label"]) - set(known)):
        text = f"label {label!r} is not a class ({', '.join(known)}); add its column {SCORE}{label} or map the label"
        _refuse_rows(table["label"] == label, path, text)
    scores = table[names].to_numpy(float)
    improbable = ~(np.abs(scores - 0.5) <= 0.5 + SUM_TOLERANCE)  # NaN too
    for name, of_class in zip(names, improbable.T, strict=True) if improbable.any() else ():
        _refuse_rows(of_class, path, f"{name} is not a probability between 0 and 1; test again")
    unequal = np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE
    _refuse_rows(unequal, path, "the scores do not sum to 1; apply softmax, or divide by their sum")
    _refuse_rows(~table[SOURCE].isin(SOURCES), path, f"{SOURCE} must be one of {', '.join(filter(None, SOURCES))}")
    if table["clip"].is_unique:  # as of one fold: nothing below can be wrong
        return
    for column in ("recording", "subject", SOURCE, "label"):
        pairs = table[["clip", column]].drop_duplicates()
        several = table["clip"].isin(pairs.loc[pairs["clip"].duplicated(), "clip"])
        _refuse_rows(several, path, f"this clip has another {column} elsewhere in the table; give it one")
    again = table.duplicated(["clip", "repeat", "fold", "split"])
    _refuse_rows(again, path, "this clip, repeat, fold and split stands in the table already; remove one of the two")
    both = table.duplicated(["clip", "repeat", "fold"])
    _refuse_rows(both, path, "this clip is val and test of one repeat and fold, and would choose its own threshold")


def _refuse_rows(bad: pd.Series | np.ndarray, path: Path, reason: str) -> None:
    if bad.any():
        line = int(np.flatnonzero(bad)[0]) + 2  # line 1 is the header
        more = f" (and {int(bad.sum()) - 1} more lines)" if bad.sum() > 1 else ""
        raise UserError(f"{path}, line {line}{more}: {reason}")
