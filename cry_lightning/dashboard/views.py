"""A workspace and a report of W&B, made of the sections."""

from importlib import import_module
from typing import Any

from cry_lightning.dashboard.sections import SECTIONS, Panel

reports: Any = import_module("wandb_workspaces.reports.v2")  # what it exports, its types do not say
workspaces: Any = import_module("wandb_workspaces.workspaces")
NAME = "cry_lightning"


def drawn(panel: Panel) -> Any:
    """A panel as W&B's."""
    group: dict[str, Any] = {}
    if panel.grouped:
        group = {"groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    if panel.kind == "pictures":
        return reports.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    if panel.kind == "bars":
        return reports.BarPlot(title=panel.title, metrics=list(panel.keys), **group)
    shown: dict[str, Any] = {"metric_regex": panel.keys[0]} if panel.pattern else {"y": list(panel.keys)}
    return reports.LinePlot(title=panel.title, x=panel.x, log_x=panel.log_x, **shown, **group)


def workspace(entity: str, project: str) -> Any:
    """All sections, the first of them open."""
    sections = [
        workspaces.Section(name=each.title, panels=[*map(drawn, each.panels)], is_open=each is SECTIONS[0])
        for each in SECTIONS
    ]
    return workspaces.Workspace(entity=entity, project=project, name=NAME, sections=sections)


def report(entity: str, project: str) -> Any:
    """The same as a page with how to read each section."""
    blocks: list[Any] = [reports.TableOfContents()]
    for each in SECTIONS:
        runs = reports.Runset(name="Runs")  # of the report's own project; to name it, the library asks the server
        grid = reports.PanelGrid(runsets=[runs], panels=[*map(drawn, each.panels)])
        blocks += [reports.H2(each.title), reports.P(each.about), grid]
    return reports.Report(entity=entity, project=project, title=f"{NAME}: {project}", blocks=blocks, width="fluid")


def specification(entity: str, project: str) -> dict[str, Any]:
    """Both as W&B's server takes them."""
    made = {"workspace": workspace(entity, project), "report": report(entity, project)}
    return {name: view._to_model().model_dump(mode="json", by_alias=True) for name, view in made.items()}


def send(entity: str, project: str) -> list[str]:
    """Save both on the server; returns their addresses."""
    saved = [workspace(entity, project).save(), report(entity, project).save()]
    return [view.url for view in saved]
