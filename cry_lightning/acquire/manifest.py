"""What is written of a whole run: manifest.csv, which is a corpus, and sources.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cry_lightning.acquire.naming import Identities, Identity
from cry_lightning.acquire.sources import Record, printable
from cry_lightning.writing import replacing

MANIFEST, SOURCES = "manifest.csv", "sources.csv"
MAX_LABELS = 12  # in the terminal


def unit_table(records: Sequence[Record], identities: Identities) -> pd.DataFrame:
    """A row for each unit: path, source, label, subject, what was measured, and what else is known of the source.

    `path` is relative to the manifest. A manifest's `start_s` would be where a clip begins within `path`; as a unit is
    all of its file there is none, and where it begins within `source` is `source_start_s`. A source of which no subject
    is known is its own, so that its units stay together in a split.
    """
    rows = []
    for record in records:
        source = record["source"]
        whose = identities.get(source, Identity())
        of_source = {"source": source, "label": whose.label, "subject": whose.subject or source}
        for unit in record["units"]:
            own = {"path": unit["path"]} | of_source | unit
            rows.append(own | {name: value for name, value in whose.columns.items() if name not in own})
    return pd.DataFrame(rows).fillna("")


def source_table(records: Sequence[Record], refused: Mapping[str, str]) -> pd.DataFrame:
    """A row for each source: source, duration_s, units, units_s (their length), and why it was refused."""
    rows = [
        (one["source"], one["duration_s"], len(one["units"]), sum(unit["duration_s"] for unit in one["units"]), "")
        for one in records
    ]
    rows += [(source, 0.0, 0, 0.0, reason) for source, reason in refused.items()]
    return pd.DataFrame(rows, columns=["source", "duration_s", "units", "units_s", "refused"]).sort_values("source")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.9g", errors="backslashreplace")


def as_text(overview: pd.DataFrame, units: pd.DataFrame) -> str:
    """What was read and what was cut of it, in a few lines."""
    read = overview[overview["refused"] == ""]
    lines = [
        f"{len(read)} files read, {_hours(read['duration_s'])}; {len(overview) - len(read)} refused",
        f"{len(units)} units, {_hours(read['units_s'])}; {(read['units'] == 0).sum()} files hold no unit",
    ]
    if units.empty:
        return "\n".join([*lines, "No unit was found: --figures shows why, the thresholds are arguments."])
    labels = units["label"].replace("", "(unlabelled)").value_counts()
    told = ", ".join(f"{label} {count}" for label, count in labels.head(MAX_LABELS).items())
    more = f" and {len(labels) - MAX_LABELS} more" if len(labels) > MAX_LABELS else ""
    lines.append(f"{units['subject'].nunique()} subjects; {printable(told)}{more}")
    return "\n".join(lines)


def _hours(seconds: pd.Series) -> str:
    return f"{seconds.sum() / 3600:.2f} h" if seconds.sum() >= 360 else f"{seconds.sum():.1f} s"
