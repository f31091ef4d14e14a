"""`python -m cry_lightning evaluate`: runs in, one table, figures and report.md out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cry_lightning.console import as_markdown_list, as_markdown_text, for_spreadsheets, on_one_line
from cry_lightning.evaluation.clinical import Readout, clinical_rows, read_out
from cry_lightning.evaluation.compare import (
    COLUMNS,
    Pair,
    Rows,
    as_markdown,
    as_text,
    cell,
    pairs,
    per_class,
    section,
    summary,
    two_class,
)
from cry_lightning.evaluation.defaults import COMPARISON, POSITIVE
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.metrics import LEVELS
from cry_lightning.evaluation.run import Run, evaluate_run, pool, read_run
from cry_lightning.evaluation.subgroups import subgroups
from cry_lightning.files import replacing
from cry_lightning.lineage import refuse_leaky

KIND = {"subjects": "infant", "recordings": "recording"}  # of what the intervals are over
CSV_COLUMNS = ["run", "level", "metric", "class", "value", "low", "high", "n_units", "n_subjects"]
ALL_CLASSES = "The {} commonest of {} classes (metrics.csv has all)"
LEGEND = """\
[low, high]: 95 % interval over {drawn}. UAR: balanced accuracy. AUC: mean over classes.
always X: the majority baseline, which says the class commonest among the tested cases."""
METHOD = """\
## How to read the numbers

- Brackets hold 95 % intervals over *{drawn}*, because the clips of one {kind} resemble each other: the metric is
  computed without each {kind} in turn (jackknife), and its variance makes a Wilson interval with Student's t. They
  tell what another choice of as many test {drawn} of each class might have given, not what another training might.
  There is none where a class that the figure rests on has fewer than {min_subjects} {drawn}.
- **UAR** (unweighted average recall, balanced accuracy) is the mean of the recalls of the classes, **macro-F1** the
  mean of their F1 scores, **AUC** the area under the ROC curve (each class against the rest, then the mean; 0.5 is
  chance).
- **always X** is the majority baseline: it says the class commonest among the tested cases of that level, whatever the
  input. The *gain* is model minus baseline, on the same subjects."""


CLINICAL = """\
Clinical figures for {positive}, at {level} level. Recalibration (Platt), thresholds and cut-offs of confidence were
chosen on validation rows; the figures are of the test."""


def run(
    named: Sequence[str],
    pooled: Sequence[Sequence[str]],
    out: Path | None,
    allow_leaky: bool,
    split: str,
    positive: str | None,
    clinical: bool,
    prevalences: Sequence[float],
    by: Path | None,
) -> pd.DataFrame:
    """Evaluate runs; returns what metrics.csv holds."""
    tested = [read_run(run, split) for run in named]
    tested += [pool([read_run(run, split) for run in folds]) for folds in pooled]
    runs = [evaluate_run(run, split, positive) for run in tested]
    if not allow_leaky:
        way_out = "Train without them, or let --allow-leaky stamp the report LEAKY"
        refuse_leaky([(run.name, run.leakage) for run in runs], way_out)

    compared = pairs(runs)
    extras = {run.name: _extras(run, clinical, prevalences, by) for run in runs}
    report = write_report(runs, compared, out or _default_folder(runs, split), extras)
    print(as_text(summary(runs)), end="\n\n")
    print(LEGEND.format(drawn=_drawn(runs)))
    if compared:
        print("\n" + "\n".join(section(compared, as_text, on_one_line)))
    for run in runs:
        print(f"\n{run.name}: {verdict(run)}")
        print("\n".join(f"- {on_one_line(remark)}" for remark in [_lineage(run), *run.notes]))
        if run.positive:
            print(as_text(two_class(run, run.positive)))
        for title, rows in extras[run.name].tables:
            print(f"\n{title}\n{as_text(rows)}")
    print(f"\nReport: {report}")
    return metrics_of(runs)


def metrics_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each metric of each run, class and predictor, with its interval."""
    numbers = [run.results.assign(run=run.name, lineage=run.leakage.status) for run in runs]
    return pd.concat(numbers, ignore_index=True)[[*CSV_COLUMNS, "predictor", "lineage"]]


@dataclass(frozen=True)
class Extras:
    """What a run's section has on request: the clinical figures, and tables with their titles."""

    readout: Readout | None = None
    tables: Sequence[tuple[str, Rows]] = ()


def _extras(run: Run, clinical: bool, prevalences: Sequence[float], by: Path | None) -> Extras:
    tables, readout = [], read_out(run, prevalences) if clinical else None
    if readout is not None:
        tables.append((CLINICAL.format(positive=readout.positive, level=readout.level), clinical_rows(readout)))
    if by is not None:
        tables.append((f"Subgroups by {by}, at {run.main_level.level} level:", subgroups(run, by)))
    return Extras(readout, tables)


def write_report(
    runs: Sequence[Run], compared: Sequence[Pair], out: Path, extras: Mapping[str, Extras] | None = None
) -> Path:
    """Write report.md, metrics.csv, figures/ and, of several runs, differences.csv; returns the path of the report."""
    extras = extras or {}
    sections = [
        _section(run, out, f"{number}-" if len(runs) > 1 else "", extras.get(run.name, Extras()))
        for number, run in enumerate(runs, 1)
    ]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    head = [f"# Evaluation of {as_markdown_text(title)}", *_head(runs), *_differences(compared)]
    with ExitStack() as files:  # all of them or none, so that none tells of another test than the next

        def part(name: str) -> Path:
            return files.enter_context(replacing(out / name))

        metrics_of(runs).pipe(for_spreadsheets).to_csv(part("metrics.csv"), index=False)
        if compared:
            differences = pd.concat([pair.differences for pair in compared])[COLUMNS]
            differences.pipe(for_spreadsheets).to_csv(part("differences.csv"), index=False)
        if found := [each.readout.figures.assign(run=name) for name, each in extras.items() if each.readout]:
            pd.concat(found).pipe(for_spreadsheets).to_csv(part("clinical.csv"), index=False)
        page = "\n\n".join([*head, _method(runs), *sections]) + "\n"
        part("report.md").write_text(page, encoding="utf-8")
    for name, written in (("differences.csv", compared), ("clinical.csv", found)):
        if not written:
            (out / name).unlink(missing_ok=True)  # of other runs, or of another call
    return out / "report.md"


def verdict(run: Run) -> str:
    """Whether UAR at the main level beats the majority baseline, in one sentence."""
    level = run.main_level.level
    uar, baseline, gain = (run.result(level, "uar", predictor=name) for name in ("model", "majority", "gain"))
    if run.leakage.status == "LEAKY":
        weight = "the test leaks, so this says nothing about other subjects"
    elif gain[["low", "high"]].isna().any():
        weight = "there is no interval, so this says nothing about other subjects"
    elif gain["low"] > 0:
        weight = f"the gain of {cell(gain)} is more than chance in the choice of {run.drawn} explains"
    else:
        weight = f"the gain of {cell(gain)} is no evidence that the model does better"
    if run.leakage.status == "SUBJECTS UNKNOWN":
        weight += ", and as subjects are not known it says nothing about other infants"
    return f"UAR {cell(uar)} at {level} level, where the majority baseline has {baseline['value']:.3f}: {weight}."


def _drawn(runs: Sequence[Run]) -> str:
    """What the intervals of these runs are over."""
    found = list(dict.fromkeys(run.drawn for run in runs))
    return found[0] if len(found) == 1 else "subjects (recordings where SUBJECTS UNKNOWN)"


def _head(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.leakage.status != "CLEAN":
            yield f"> **{run.leakage.status}** " + as_markdown_text(f"{run.name}: {run.leakage.reason}.")
    yield as_markdown(summary(runs))
    yield "\n".join(f"- **{as_markdown_text(run.name)}**: {verdict(run)}" for run in runs)


def _differences(compared: Sequence[Pair]) -> Iterator[str]:
    if not compared:
        return
    yield "## Differences, run by run"
    if any(pair.unlike for pair in compared):
        yield "**Runs that are not paired were not tested on the same clips: do not set their figures side by side.**"
    yield from section(compared, as_markdown, as_markdown_text)


def _method(runs: Sequence[Run]) -> str:
    coarser = [level for level in LEVELS[1:] if any(level == units.level for run in runs for units in run.levels)]
    drawn = _drawn(runs)
    method = METHOD.format(min_subjects=MIN_SUBJECTS, drawn=drawn, kind=KIND.get(drawn, "of these"))
    if not coarser:
        return method
    return f"{method}\n- At {' and '.join(coarser)} level, each case has the mean scores of all its clips."


def _section(run: Run, out: Path, prefix: str, extras: Extras) -> str:
    # These take seconds to import; no mistake should be reported that late.
    from cry_lightning.evaluation.figures import draw_clinical, draw_confusion, draw_curves

    confusion, curves = f"figures/{prefix}confusion.png", f"figures/{prefix}curves.png"
    draw_confusion(run, out / confusion)
    draw_curves(run, out / curves)
    level = run.main_level.level
    blocks = [f"## {as_markdown_text(run.name)}", as_markdown_list([_lineage(run), *run.notes])]
    if run.positive:
        blocks.append(f"Positive class: **{as_markdown_text(run.positive)}** ({POSITIVE}).")
        blocks.append(as_markdown(two_class(run, run.positive)))
    n_shown = len(run.shown_classes)
    shown = "Each class" if n_shown == len(run.classes) else ALL_CLASSES.format(n_shown, len(run.classes))
    blocks += [f"{shown}, at {level} level:", as_markdown(per_class(run))]
    blocks += [f"![Confusion matrix]({confusion})", f"![ROC and precision-recall curves]({curves})"]
    for title, rows in extras.tables:
        blocks += [as_markdown_text(title), as_markdown(rows)]
    if extras.readout is not None:
        draw_clinical(run, extras.readout, out / f"figures/{prefix}clinical.png")
        blocks.append(f"![Reliability, net benefit and abstention](figures/{prefix}clinical.png)")
    return "\n\n".join(blocks)


def _lineage(run: Run) -> str:
    found = run.leakage.reason or "no tested subject or clip was found in the training data of any stage"
    loss = " Scores rank, but are not calibrated probabilities." * run.leakage.uncalibrated
    return f"Lineage: {run.leakage.status}, {found}.{loss}"


def _default_folder(runs: Sequence[Run], split: str) -> Path:
    folder = runs[0].folder if len(runs) == 1 else COMPARISON
    return folder / "validation" if split == "val" else folder
