"""card.md: a model card, of what a tested run shows by itself.

Source: Mitchell et al. 2019, "Model cards for model reporting", FAT*.
"""

from collections.abc import Iterator

from cry_lightning.console import as_markdown_list, as_markdown_text
from cry_lightning.evaluation.compare import as_markdown, per_class, summary
from cry_lightning.report import words
from cry_lightning.report.facts import Facts

USE = (
    "Research on infant cries. This is a research tool, not a medical device: no decision about a child may rest on"
    " its output. It was tested on the recordings below and on no others; how it does with other infants, microphones"
    " and places is not known."
)
CITE = "Cite the software (`CITATION.cff` of cry_lightning), the corpora, and the source of any published weights."


def page(facts: Facts) -> str:
    """The card of a run as Markdown."""
    return "\n\n".join(_blocks(facts)) + "\n"


def _blocks(facts: Facts) -> Iterator[str]:
    run, extras = facts.run, facts.extras
    text = as_markdown_text
    yield f"# Model card: {text(run.title)}"
    yield f"**{run.leakage.status}** {words.STAMPS[run.leakage.status]} {text(words.verdict(run))}"
    yield "## Intended use"
    yield USE
    yield "## Model"
    yield as_markdown_list(filter(None, [facts.model, facts.preparation, facts.output, facts.specification]))
    yield "## Data and subjects"
    yield as_markdown_list(filter(None, [facts.data, facts.classes, facts.size, facts.flow, facts.missing]))
    yield "## Protocol"
    yield as_markdown_list([facts.partition, facts.measures, facts.clusters])
    yield "## Results"
    yield as_markdown(summary([run]))
    yield as_markdown(per_class(run))
    yield "## Subgroups"
    yield as_markdown(extras.subgroups[1]) if extras.subgroups else "Not examined (`evaluate --by TABLE.csv` does)."
    yield "## Calibration"
    yield text(facts.calibration)
    yield "## Limits"
    yield as_markdown_list([words.lineage(run), *run.notes])
    yield "## How to cite"
    yield f"{CITE} Software: {text(facts.software)}"
