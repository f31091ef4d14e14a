"""`dashboard`: a workspace and a report of W&B, made of the sections, sent there or written down."""

import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import wandb

from cry_lightning.console import one_line
from cry_lightning.dashboard.runs import is_online, keep_private
from cry_lightning.dashboard.sections import SECTIONS, Panel
from cry_lightning.files import Json, write_json

if TYPE_CHECKING:
    from pydantic import BaseModel

reports: ModuleType = import_module("wandb_workspaces.reports.v2")  # what it exports, its types do not say
workspaces: ModuleType = import_module("wandb_workspaces.workspaces")
NAME = "cry_lightning"
log = logging.getLogger(__name__)


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
