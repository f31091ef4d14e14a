"""Texts and tables that people save, from an editor or a spreadsheet."""

import csv
import io
import re
from collections.abc import Callable, Collection, Sequence
from itertools import zip_longest
from json import detect_encoding
from pathlib import Path

from cry_lightning.console import UserError
from cry_lightning.files.contents import kind_of
from cry_lightning.files.names import nfc

SEPARATORS = ",;\t"
SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\r\n])"?(?=[\r\n])', re.IGNORECASE)  # the first, as Excel takes it
QUOTED = re.compile('"([^"]*)"')
NUMBER, WITH_POINT = re.compile(r"[-+]?\d*,\d+"), re.compile(r"[-+]?\d*\.\d+")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")  # or a number with a decimal comma
CODE_PAGES = ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")  # of Windows, for languages in Latin letters
AS_UTF_8 = {".csv": " (in Excel: CSV UTF-8)", ".textgrid": " (in Praat: Text writing settings)"}  # by ending
WORD = re.compile(r"[^\W\d_]+")
Row = tuple[int, dict[str, str]]  # number of its line, and its values by column
NAMES = {"path", "recording", "source", "label", "subject"}  # columns of no numbers


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32: by its byte-order mark, or by the zeros in its first characters.

    Raises:
        UserError: the file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from error
    encoding = detect_encoding(content).removesuffix("-sig").upper()
    try:
        return content.decode(encoding).removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        if encoding == "UTF-8" and (text := _from_windows(content)):
            return text
        if (kind := kind_of(path)) not in ("", "text"):
            raise UserError(
                f"{path}: {kind}, and no text; give a file that an editor or a spreadsheet wrote"
            ) from error
        line = content[: error.start].count(b"\n") + 1
        told = AS_UTF_8.get(path.suffix.lower(), "")
        named = "UTF-8" if encoding.endswith(("-LE", "-BE")) else encoding  # a guess by zeros, which may be no text's
        raise UserError(f"{path}: line {line}, byte {error.start}: not {named}; save it as UTF-8{told}") from error


def _from_windows(content: bytes) -> str:
    """The text, where it is in one of Windows' encodings beyond doubt, as `M\xfcller` is; else nothing.

    All that come into question must agree in it, and bytes beyond ASCII be letters, fewer in each word than others: a
    word of Greek or Cyrillic has no others, and DOS and old Macs have accented letters where Windows has none.
    """
    try:
        texts = {content.decode(page) for page in CODE_PAGES}
    except UnicodeDecodeError:
        return ""
    text = texts.pop()
    words = (word for word in WORD.findall(text) if not word.isascii())
    is_plain = all(byte < 0x80 or byte >= 0xC0 for byte in content)
    sure = is_plain and not texts and all(2 * len(word.encode("ascii", "ignore")) > len(word) for word in words)
    return text if sure else ""


def read_table(path: Path, columns_of: Callable[[Sequence[str]], list[str]] = list) -> list[Row]:
    """Line number and columns of every row that is not empty, blanks stripped; empty columns without a name left out.

    So is a first column without a name that numbers the rows from 0, as pandas writes its index. In a file that is
    separated by semicolons, or by tabs where no comma can be one of thousands, decimal commas become points, but not
    in what names files, labels or subjects.

    Args:
        path: a file with a header, separated by commas, semicolons or tabs: by that of which the header has most
            outside of quotes, or by what a line `sep=;` before it says.
        columns_of: the header -> the names of the columns, as they are to be called.

    Raises:
        UserError: the file cannot be read as such, or has a value in no column, or in one without a name.
    """
    separator, ((_, header), *lines) = _lines(path)
    columns = columns_of(header)
    if not columns[0] and [fields[0] for _, fields in lines] == [str(number) for number in range(len(lines))]:
        lines = [(line, ["", *fields[1:]]) for line, fields in lines]
    rows: list[Row] = []
    for line, fields in lines:
        pairs = [*zip_longest(columns, fields, fillvalue="")]
        if nameless := [place for place, (name, value) in enumerate(pairs) if value and not name]:
            fault = f"has {fields[nameless[0]]!r} in a column without a name; name it, or empty it"
            if nameless[0] >= len(columns):
                fault = "has more fields than the header"
            raise UserError(f"{path}: line {line} {fault}")
        rows.append((line, {name: value for name, value in pairs if name}))
    return _with_points(rows, separator)


def named_columns(path: Path, header: Sequence[str], known: Collection[str]) -> list[str]:
    """The names of the columns of a table, the known ones in lower case however they are written.

    Raises:
        UserError: two columns have one name.
    """
    columns = [column.lower() if column.lower() in known else column for column in map(nfc, header)]
    if twice := {column for column in columns if column and columns.count(column) > 1}:
        raise UserError(f"{path}: more than one column {', '.join(sorted(twice))}; keep one of each name")
    return columns


def _lines(path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator, and number and fields of every line that is not empty, the header first."""
    text = read_text(path)
    stated = SEPARATOR_LINE.match(text)
    if stated:
        text = text[stated.end() :]  # with its end of line, so that lines are counted
    unquoted = QUOTED.sub(lambda quoted: "x" if quoted[1].strip() else "", text)
    header = next((line for line in unquoted.splitlines() if line.strip(f"{SEPARATORS} ")), "")
    if not header:
        raise UserError(f"{path}: the file is empty")
    separator = stated[1] if stated else max(SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        stripped = ((reader.line_num, [field.strip() for field in fields]) for fields in reader)
        return separator, [(line, fields) for line, fields in stripped if any(fields)]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV: {error}") from error


def _with_points(rows: list[Row], separator: str) -> list[Row]:
    """The rows with points for decimal commas, where commas separate no columns, and no thousands either."""
    if separator not in ";\t":
        return rows
    cells = {value for _, row in rows for name, value in row.items() if name.lower() not in NAMES}
    numbers = {cell for cell in cells if NUMBER.fullmatch(cell)}
    may_be_thousands = all(map(THOUSANDS.fullmatch, numbers)) or any(map(WITH_POINT.fullmatch, cells))
    if not numbers or (separator == "\t" and may_be_thousands):
        return rows

    def pointed(name: str, value: str) -> str:
        return value.replace(",", ".") if value in numbers and name.lower() not in NAMES else value

    return [(line, {name: pointed(name, value) for name, value in row.items()}) for line, row in rows]
