"""`dashboard`: a workspace and a report of W&B, made of sections of panels, each of the keys that our own runs log."""

import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

import wandb

from cry_lightning.console import one_line
from cry_lightning.dashboard.runs import is_online, keep_private
from cry_lightning.files import Json, write_json

if TYPE_CHECKING:
    from pydantic import BaseModel

reports: ModuleType = import_module("wandb_workspaces.reports.v2")  # what it exports, its types do not say
workspaces: ModuleType = import_module("wandb_workspaces.workspaces")
NAME = "cry_lightning"
log = logging.getLogger(__name__)


Kind = Literal["lines", "bars", "pictures"]


@dataclass(frozen=True)
class Panel:
    """A picture of some keys.

    Args:
        title: of it.
        keys: of a run's history, summary or media; or, of lines, one regular expression that keys match.
        kind: how they are drawn: along x, as a bar for each run, or the pictures themselves.
        x: key along which lines are drawn.
        grouped: runs of one group as one, by their mean and range.
        pattern: the key is a regular expression.
        log_x: x is drawn on a logarithmic scale.
    """

    title: str
    keys: tuple[str, ...]
    kind: Kind = "lines"
    x: str = "epoch"
    grouped: bool = False
    pattern: bool = False
    log_x: bool = False


@dataclass(frozen=True)
class Section:
    """Panels under one title.

    Args:
        title: of it.
        about: how to read it.
        panels: in their order.
    """

    title: str
    about: str
    panels: tuple[Panel, ...]


KINDS = {  # of disturbances, as robustness logs them: what stands along the axis
    "noise": "noise, dB of SNR",
    "white": "white noise, dB of SNR",
    "bands": "bands removed, in their order",
    "ends": "share of the clip that is silenced",
    "gain": "gain, dB",
    "channel": "channels, in their order",
}
FIGURES_OF_TUNE = ("tune/trials", "tune/history", "tune/importances")
ACCURACY = "UAR (balanced accuracy)"
SECTIONS = (
    Section(
        "Pipeline",
        "Each run is called CORPUS/STAGE, and the runs of one pipeline or study are one group; their inputs and"
        " artifacts make the chain. What a model can do is its test, with 95 % intervals over subjects, from evaluate;"
        " the validation chose it. Read no figure without the stamp of its lineage, which is a tag of the run.",
        (
            Panel(
                "Test, clips: UAR and its interval",
                ("test/clip/uar", "test/clip/uar_low", "test/clip/uar_high"),
                "bars",
            ),
            Panel("Test, clips: AUC", ("test/clip/macro_auc",), "bars"),
            Panel("Validation of the chosen checkpoint: UAR", ("val/uar",), "bars"),
        ),
    ),
    Section(
        "Pretraining health",
        "Alignment and uniformity: lower is better for both; a uniformity near 0 or an effective rank below 2 is a"
        " collapse. The probe is a linear classifier on labelled clips; it looks, and trains nothing.",
        (
            Panel("Contrastive loss", ("train/loss", "val/loss")),
            Panel("Effective rank of the embeddings", ("val/effective_rank",)),
            Panel("Alignment", ("val/alignment",)),
            Panel("Uniformity", ("val/uniformity",)),
            Panel("Probe: UAR", ("val/probe_uar",)),
            Panel("Learning rate", ("train/lr",)),
            Panel("Gradient norm", ("train/grad_norm",)),
            Panel("Two views of a clip", ("val/views",), "pictures"),
            Panel("Map of the embeddings", ("val/embeddings",), "pictures"),
        ),
    ),
    Section(
        "Fine-tuning",
        "Curves of the validation subjects, then the chosen checkpoint: a validation loss that rises while the training"
        " loss falls is overfitting.",
        (
            Panel("Loss", ("train/loss", "val/loss")),
            Panel(ACCURACY, ("train/uar", "val/uar")),
            Panel("AUC", ("val/auc",)),
            Panel("Confusion matrix", ("val/confusion", "test/confusion"), "pictures"),
            Panel("ROC and precision-recall", ("val/curves", "test/curves"), "pictures"),
            Panel("Reliability", ("val/reliability", "test/reliability"), "pictures"),
        ),
    ),
    Section(
        "Folds",
        "Each fold is a run that was tested on other subjects; bars are their means, whiskers their range. The pooled"
        " test, with intervals over subjects, is the study's own run.",
        (
            Panel("Folds: UAR of the tests", ("test/uar",), "bars", grouped=True),
            Panel("Folds: UAR in training", ("val/uar",), grouped=True),
            Panel("Pooled: UAR and its interval", ("test/clip/uar", "test/clip/uar_low", "test/clip/uar_high"), "bars"),
        ),
    ),
    Section(
        "Search",
        "Trials of tune, each a run in the search's group, by the validation metric that chooses the checkpoint. The"
        " best of many is optimistic: only the test of a fit with its settings says how good they are.",
        (
            Panel("Score of the best epoch", ("tune/score", "tune/best_so_far"), x="tune/trial"),
            Panel("Trials by setting, in their order, and what matters", FIGURES_OF_TUNE, "pictures"),
        ),
    ),
    Section(
        "Label efficiency",
        "Scores against the number of labelled clips, a line for each encoder, from label-efficiency.",
        (
            Panel("UAR", ("^label_efficiency/.*/uar$",), x="label_efficiency/labels", pattern=True, log_x=True),
            Panel("AUC", ("^label_efficiency/.*/macro_auc$",), x="label_efficiency/labels", pattern=True, log_x=True),
        ),
    ),
    Section(
        "Leakage",
        "One recipe divided by subject and by clip, from leakage: what it gains by clip is knowledge of who cries."
        " Identity only and recorder only use no model of cries at all.",
        (
            Panel("UAR by division", tuple(f"leakage/by_{by}/model/uar" for by in ("subject", "clip")), "bars"),
            Panel(
                "UAR without any model",
                ("leakage/by_clip/identity_only/uar", "leakage/by_subject/recorder_only/uar"),
                "bars",
            ),
        ),
    ),
    Section(
        "Robustness",
        "UAR of a trained model while its test clips are disturbed, from robustness.",
        tuple(
            Panel(f"UAR: {about}", (f"robustness/{kind}/uar",), x=f"robustness/{kind}/place")
            for kind, about in KINDS.items()
        ),
    ),
    Section(
        "Data",
        "Clips and subjects of each part, and features of a few clips, captioned with a hash and the class.",
        (
            Panel("Clips", tuple(f"data/{part}/clips" for part in ("train", "val", "test")), "bars"),
            Panel("Subjects", tuple(f"data/{part}/subjects" for part in ("train", "val", "test")), "bars"),
            Panel("Features", ("val/examples", "test/examples"), "pictures"),
        ),
    ),
)


class View(Protocol):
    """A workspace or a report."""

    url: str

    def save(self) -> "View":
        """Send it to the server, and return what has become of it there."""

    def _to_model(self) -> "BaseModel": ...


def drawn(panel: Panel) -> object:
    """A panel as W&B's."""
    group: dict[str, str] = {}
    if panel.grouped:
        group = {"groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    if panel.kind == "pictures":
        return reports.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    if panel.kind == "bars":
        return reports.BarPlot(title=panel.title, metrics=list(panel.keys), **group)
    shown: Json = {"metric_regex": panel.keys[0]} if panel.pattern else {"y": list(panel.keys)}
    return reports.LinePlot(title=panel.title, x=panel.x, log_x=panel.log_x, **shown, **group)


def workspace(entity: str, project: str) -> View:
    """All sections, the first of them open."""
    sections = [
        workspaces.Section(name=each.title, panels=[*map(drawn, each.panels)], is_open=each is SECTIONS[0])
        for each in SECTIONS
    ]
    return workspaces.Workspace(entity=entity, project=project, name=NAME, sections=sections)


def report(entity: str, project: str) -> View:
    """The same as a page with how to read each section."""
    blocks: list[object] = [reports.TableOfContents()]
    for each in SECTIONS:
        runs = reports.Runset(name="Runs")  # of the report's own project; to name it, the library asks the server
        grid = reports.PanelGrid(runsets=[runs], panels=[*map(drawn, each.panels)])
        blocks += [reports.H2(each.title), reports.P(each.about), grid]
    return reports.Report(entity=entity, project=project, title=f"{NAME}: {project}", blocks=blocks, width="fluid")


def specification(entity: str, project: str) -> Json:
    """Both as W&B's server takes them."""
    made = {"workspace": workspace(entity, project), "report": report(entity, project)}
    return {name: view._to_model().model_dump(mode="json", by_alias=True) for name, view in made.items()}


def send(entity: str, project: str) -> list[str]:
    """Save both on the server; returns their addresses."""
    saved = [workspace(entity, project).save(), report(entity, project).save()]
    return [view.url for view in saved]


def run(project: str, entity: str | None, out: Path | None) -> list[str]:
    """Make the views; returns their addresses, or the file in which they are described."""
    keep_private()
    if out is None and is_online():
        try:
            addresses = send(entity or wandb.Api().default_entity or "", project)
            print("\n".join(addresses))
            return addresses
        except Exception as error:  # of the network, the server or the library
            log.warning("W&B does not take the dashboard: %s", one_line(str(error)))
    out = out or Path("dashboard.json")
    write_json(specification(entity or "", project), out)
    again = f"python -m cry_lightning dashboard --project {project}" + (f" --entity {entity}" if entity else "")
    print(f"{out}; to send it, `wandb login`, or set WANDB_API_KEY, where there is a network, then: {again}")
    return [str(out)]
