"""`python -m cry_lightning dashboard`: views of the runs in W&B, sent there or written down."""

import json
import logging
from pathlib import Path

from cry_lightning.console import one_line
from cry_lightning.dashboard.runs import is_online, keep_private
from cry_lightning.files import replacing

log = logging.getLogger(__name__)


def run(project: str, entity: str | None, out: Path | None) -> list[str]:
    """Make the views; returns their addresses, or the file in which they are described."""
    keep_private()
    if out is None and is_online():
        try:
            return _sent(project, entity)
        except Exception as error:  # of the network, the server or the library
            log.warning("W&B does not take the dashboard: %s", one_line(str(error)))
    return [_written(project, entity or "", out or Path("dashboard.json"))]


def _sent(project: str, entity: str | None) -> list[str]:
    import wandb

    from cry_lightning.dashboard.views import send

    addresses = send(entity or wandb.Api().default_entity or "", project)
    print("\n".join(addresses))
    return addresses


def _written(project: str, entity: str, out: Path) -> str:
    from cry_lightning.dashboard.views import specification

    with replacing(out) as part:
        part.write_text(json.dumps(specification(entity, project), indent=1), encoding="utf-8")
    again = f"python -m cry_lightning dashboard --project {project}" + (f" --entity {entity}" if entity else "")
    print(f"{out}; to send it, `wandb login`, or set WANDB_API_KEY, where there is a network, then: {again}")
    return str(out)
