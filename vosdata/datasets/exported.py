"""Recognises what ``vosdata export`` wrote, so that reading it back gives the set its own name and licence."""

from dataclasses import replace
from pathlib import Path

from vosdata.datasets.dataset import Dataset
from vosdata.export.note import read_note


def restore(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with what its export remembers: name, title, licence and frame rate; as found where there is no note.

    An export of sets of several datasets stays what its layout says.

    Raises:
        DatasetError: the note is damaged.
    """
    note = read_note(folder)
    if note is None or len({one.dataset for one in note.sets}) != 1:
        return dataset
    first = note.sets[0]
    rates = {one.frame_rate for one in note.sets}
    return replace(
        dataset,
        name=first.dataset,
        title=first.title.removesuffix(f", split {first.split}"),
        resolution=None,  # the name has it already where it is not the usual one
        licence="; ".join(dict.fromkeys(one.licence for one in note.sets)),
        video_rate=first.frame_rate if len(rates) == 1 else None,
        numbers_follow_video=False,
    )
