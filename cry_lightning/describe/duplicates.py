"""The same sound under several names; under several subjects it puts one infant on both sides of a split."""

import pandas as pd

LEAK, RELABELLED, COPY = "several subjects", "several classes", "copy"
NAMED = 5  # sounds, and recordings of each, that the report names; the CSV names all


def duplicates(clips: pd.DataFrame, recordings: pd.DataFrame) -> pd.DataFrame:
    """A row for each recording whose decoded samples are those of another: group, recording, class, kind.

    The kind is that of the whole group: a leak where subjects differ, else whether classes do. Copies in another
    lossless container are found, re-encoded or trimmed ones are not.

    Args:
        clips: as from `clip_table`, usable ones only.
        recordings: as from `survey`.
    """
    sounds = recordings.loc[clips["recording"].unique(), "sound"]
    twice = sounds[sounds.duplicated(keep=False) & (sounds != "")]
    own = clips[clips["recording"].isin(twice.index)].groupby("recording")
    told = {column: own[column].agg(lambda values: ", ".join(sorted(set(values)))) for column in ("subject", "class")}
    table = pd.DataFrame({"sound": twice, **told}).rename_axis("recording").reset_index()
    differ = table.groupby("sound")[["subject", "class"]].transform("nunique") > 1
    table["kind"] = COPY
    table.loc[differ["class"], "kind"] = RELABELLED
    table.loc[differ["subject"], "kind"] = LEAK
    table["group"] = table.groupby("sound", sort=False).ngroup() + 1
    return table.sort_values(["group", "recording"])[["group", "recording", "class", "kind"]]


def in_words(found: pd.DataFrame, n_unheard: int) -> list[str]:
    """What was found, leaks first; how far the search went.

    Args:
        found: as from `duplicates`.
        n_unheard: recordings that were not decoded.
    """
    remarks = []
    for kind, weight in (
        (LEAK, "LEAK: the same sound under several subjects, so that no split by subject keeps it on one side"),
        (RELABELLED, "the same sound in several classes, of one subject"),
        (COPY, "the same sound twice, of one subject"),
    ):
        groups = found[found["kind"] == kind].groupby("group")["recording"].agg(list)
        if len(groups):
            named = "; ".join(" = ".join(names[:NAMED]) + " = ..." * (len(names) > NAMED) for names in groups[:NAMED])
            more = f"; and {len(groups) - NAMED} more in duplicates.csv" if len(groups) > NAMED else ""
            remarks.append(f"{weight} ({len(groups)}): {named}{more}")
    if not remarks:
        remarks = ["No sound is there twice."]
    if n_unheard:
        remarks.append(f"{n_unheard:,} recordings were not decoded: copies of them go unseen.")
    return [*remarks, "Compared are decoded samples: copies that were re-encoded or trimmed go unseen."]
