"""`python -m cry_lightning label-efficiency`: points trained where they are not yet, then table, CSV and figure."""

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cry_lightning.evaluation.run import Tested, read_run
from cry_lightning.label_efficiency import report
from cry_lightning.label_efficiency.curves import curves
from cry_lightning.label_efficiency.plan import FOLD, Point
from cry_lightning.label_efficiency.training import Subset, made_by, open_study, subset, train
from cry_lightning.lineage import refuse_leaky
from cry_lightning.studies import Study, is_finished


def run(arguments: Sequence[str], planned: list[Point], out: Path | None, allow_leaky: bool) -> pd.DataFrame:
    """Run the command on a stage, given by the arguments of `fit`; returns what label_efficiency.csv holds."""
    study = open_study(arguments)
    subsets = {point.subset: subset(study, point) for point in {point.subset: point for point in planned}.values()}
    out = out or Path(study.config["runs"]) / study.corpus / "label-efficiency"
    tested = run_points(study, planned, subsets, out / "points", allow_leaky)
    result = curves(tested, subsets)
    report.write(result, out, len(study.data.classes))
    print(f"\n{report.text(result)}\n\n{out / 'label_efficiency.csv'}\n{out / 'label_efficiency.png'}")
    return result


def run_points(
    study: Study, planned: list[Point], subsets: dict[tuple, Subset], runs: Path, allow_leaky: bool
) -> dict[Point, Tested]:
    """Train the points that are not finished, and read the predictions of all."""
    tested = {}
    for number, point in enumerate(planned, 1):
        folder, began = runs / study.corpus / point.name, time.monotonic()
        wanted = made_by(study, point, subsets[point.subset])
        finished = is_finished(folder, wanted)
        if not finished:
            train(study, point, wanted, runs)
        tested[point] = read_run(str(folder), "test")
        if not allow_leaky:
            way_out = f"Give an encoder that was not trained on them (with {FOLD} in its path, one for each fold)"
            refuse_leaky(
                [(str(folder), tested[point].leakage)], f"{way_out}, or let --allow-leaky stamp the table LEAKY"
            )
        told = "finished before" if finished else f"{time.monotonic() - began:.0f} s"
        print(f"{number}/{len(planned)} {point.name}: {told}", flush=True)
    return tested
