"""report.md, and card.md: a model card, of what a tested run shows by itself.

Source: Mitchell et al. 2019, "Model cards for model reporting", FAT*.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cry_lightning.console import as_markdown_list, as_markdown_text
from cry_lightning.evaluation.compare import Pair, as_markdown, per_class, section, summary, two_class
from cry_lightning.evaluation.run import Run
from cry_lightning.report import words
from cry_lightning.report.facts import Facts
from cry_lightning.report.words import Extras

if TYPE_CHECKING:  # it takes a while to import
    from cry_lightning.report.page import Picture

USE = (
    "Research on infant cries. This is a research tool, not a medical device: no decision about a child may rest on"
    " its output. It was tested on the recordings below and on no others; how it does with other infants, microphones"
    " and places is not known. It answers for any sound: noise is not always found unlike the training, and least by a"
    " small network that was trained from scratch."
)
CITE = "Cite the software (`CITATION.cff` of cry_lightning), the corpora, and the source of any published weights."


def page(
    runs: Sequence[Run],
    compared: Sequence[Pair],
    extras: Mapping[str, Extras],
    pictures: Mapping[str, Sequence["Picture"]],
) -> str:
    """The report as Markdown; arguments as of the HTML page."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    sections = ["\n\n".join(_section(run, extras[run.name], pictures[run.name])) for run in runs]
    method = "\n".join(f"- **{term}** {text}" for term, text in words.method(runs).items())
    head = [f"# Evaluation of {as_markdown_text(title)}", *_head(runs), *_differences(compared)]
    return "\n\n".join([*head, "## How to read the numbers", method, *sections]) + "\n"


def _head(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        if run.leakage.status != "CLEAN":
            yield f"> **{run.leakage.status}** " + as_markdown_text(f"{run.label}: {run.leakage.reason}.")
    yield as_markdown(summary(runs))
    yield "\n".join(f"- **{as_markdown_text(run.label)}**: {as_markdown_text(words.verdict(run))}" for run in runs)


def _differences(compared: Sequence[Pair]) -> Iterator[str]:
    if not compared:
        return
    yield "## Differences, run by run"
    if any(pair.unlike for pair in compared):
        yield f"**{words.UNPAIRED}**"
    yield from section(compared, as_markdown, as_markdown_text)


def _section(run: Run, extras: Extras, pictures: Sequence["Picture"]) -> Iterator[str]:
    yield f"## {as_markdown_text(run.label)}"
    if run.shared:
        yield as_markdown_text(run.name)
    yield as_markdown_list([words.lineage(run), *run.notes])
    if run.positive:
        yield f"Positive class: **{as_markdown_text(run.positive)}** ({words.POSITIVE})."
        yield as_markdown(two_class(run, run.positive))
    yield words.classes_shown(run)
    yield as_markdown(per_class(run))
    for title, rows in extras.tables:
        yield as_markdown_text(title)
        yield as_markdown(rows)
    for picture in pictures:
        yield f"![{picture.caption}]({picture.path})"


def card(facts: Facts) -> str:
    """The card of a run as Markdown."""
    return "\n\n".join(_of_card(facts)) + "\n"


def _of_card(facts: Facts) -> Iterator[str]:
    run, extras = facts.run, facts.extras
    text = as_markdown_text
    yield f"# Model card: {text(run.title)}"
    yield f"**{run.leakage.status}** {words.STAMPS[run.leakage.status]} {text(words.verdict(run))}"
    yield from filter(None, [run.synthetic])
    yield "## Intended use"
    yield USE
    yield "## Model"
    yield as_markdown_list(filter(None, [facts.model, facts.preparation, facts.output, facts.specification]))
    yield "## Data and subjects"
    yield as_markdown_list(filter(None, [facts.data, facts.classes, facts.size, facts.flow, facts.missing]))
    yield "## Protocol"
    yield as_markdown_list([facts.partition, facts.measures, facts.clusters])
    yield "## Results"
    yield as_markdown([row[1:-1] for row in summary([run])])  # its name and its stamp stand above
    yield as_markdown(per_class(run))
    yield "## Subgroups"
    yield as_markdown(extras.subgroups[1]) if extras.subgroups else "Not examined (`evaluate --by TABLE.csv` does)."
    yield "## Calibration"
    yield text(facts.calibration)
    yield "## Limits"
    yield as_markdown_list([words.lineage(run), *run.notes])
    yield "## How to cite"
    yield f"{CITE} Software: {text(facts.software)}"
