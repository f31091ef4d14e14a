"""`python -m cry_lightning acquire`: recordings of any container in, cry units and a manifest out."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cry_lightning.acquire import inputs
from cry_lightning.acquire.inputs import Finder
from cry_lightning.acquire.run import MANIFEST, SOURCES, acquire, annotate, as_text, source_table, unit_table, write
from cry_lightning.acquire.settings import Settings
from cry_lightning.audio import what_it_is
from cry_lightning.commands.arguments import check_folder
from cry_lightning.console import UserError, printable
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.files import read_object, write_json

log = logging.getLogger(__name__)
PROVENANCE = "settings.json"  # in OUT
MAX_TOLD = 20  # refused sources in the terminal; the file has them all


def run(
    given: Path,
    out: Path,
    thresholds: Settings,
    name_pattern: str | None,
    table: Path | None,
    figures: bool,
    annotations: str | None,
    jobs: int,
    overwrite: bool,
    finder: Finder | None = None,
) -> pd.DataFrame:
    """Run the command; sources that cannot be used are reported with the reason, the rest goes on."""
    root, sources = find_sources(given)
    check_out(out, given)
    if table:
        identities = inputs.by_table(table, sources)
    else:
        identities = inputs.by_pattern(name_pattern, sources) if name_pattern else inputs.by_form(root, sources)
    detector = {"detector": finder.digest} if finder else {}
    begin(out, {"in": str(given.resolve())} | asdict(thresholds) | detector, overwrite)
    records, refused = acquire(root, sources, out, thresholds, figures, jobs, finder)
    inputs.warn_of_unnamed(identities, [one["source"] for one in records if one["units"]], root)
    overview, units = source_table(records, refused), unit_table(records, identities)
    write(overview, out / SOURCES)
    if annotations:
        annotate(records, out, annotations)
    if units.empty:  # an empty manifest is no corpus, an older one would be false
        (out / MANIFEST).unlink(missing_ok=True)
    else:
        write(units, out / MANIFEST)
    if refused:
        report_refused(refused, len(sources), out / SOURCES)
    print(as_text(overview, units))
    print(out / (SOURCES if units.empty else MANIFEST))
    return units


def find_sources(given: Path) -> tuple[Path, list[str]]:
    """The folder that sources are relative to, and the sources.

    Raises:
        UserError: there is none.
    """
    if given.is_file():
        return given.parent, [given.name]
    if not given.is_dir():
        kind = f"is {what_it_is(given)}" if given.exists() else "no such file or folder"
        raise UserError(f"{given}: {kind}; give a recording, or a folder of them")
    return given, find_recordings(given)


def check_out(out: Path, given: Path) -> None:
    """Refuse a folder whose units would be sources at the next run.

    Raises:
        UserError: it lies within IN, or cannot be a folder.
    """
    check_folder("OUT", out)
    if given.is_dir() and out.resolve().is_relative_to(given.resolve()):
        raise UserError(f"{out}: lies within {given}, where its units would pass for recordings; name another OUT")


def begin(out: Path, provenance: Mapping[str, object], overwrite: bool) -> None:
    """Note in OUT what its units are made of.

    Raises:
        UserError: they are made of something else, or there are other things in it.
    """
    path = out / PROVENANCE
    if not path.exists() and out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: holds something else than units; name a new folder")
    try:
        before = read_object(path, "") if path.exists() else provenance
    except UserError:
        if not overwrite:
            raise UserError(f"{path}: is damaged; give --overwrite to make {out} anew, or another OUT") from None
        before = {}
    known = dict.fromkeys(before) | dict(provenance)
    words = {"in": "the recordings in"}
    changed = [
        f"{words.get(key, key)} {before.get(key)}, not {value}"
        for key, value in known.items()
        if before.get(key) != value
    ]
    if changed and not overwrite:
        raise UserError(f"{out}: was made with {', '.join(changed)}; give --overwrite to make it anew, or another OUT")
    write_json(provenance, path)


def report_refused(refused: Mapping[str, str], n_sources: int, listed: Path) -> None:
    """List the sources that could not be read, with the reason.

    Raises:
        UserError: there was nothing else.
    """
    reasons = [printable(f"{source}: {reason}") for source, reason in refused.items()][:MAX_TOLD]
    if len(refused) == n_sources:
        raise UserError(f"none of {n_sources} files could be read, see {listed}; the first is {reasons[0]}")
    more = [f"and {len(refused) - MAX_TOLD} more, see {listed}"] if len(refused) > MAX_TOLD else []
    log.warning("refused:\n  %s", "\n  ".join([*reasons, *more]))
