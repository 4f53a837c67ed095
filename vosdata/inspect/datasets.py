"""Facts about dataset folders as published, and about single pictures and masks."""

from pathlib import Path
from typing import TYPE_CHECKING

from shards.codec import image_size, image_suffix
from shards.errors import BadFileError, SourceError
from shards.masks import decode_mask, object_stats
from vosdata.inspect.facts import Facts, Table

if TYPE_CHECKING:
    from vosdata.datasets import Dataset

MAX_PROBLEMS = 20


def dataset_facts(path: Path) -> list[Facts]:
    """Facts about every dataset in a folder: its splits with sequences, frames and annotated frames.

    Where there is none, facts about the pictures there that synthetic videos can be made of.

    Raises:
        DatasetError: nothing is recognised, or a dataset contradicts itself.
    """
    from vosdata.datasets.recognise import find_datasets, recognise

    found = find_datasets(path.absolute())
    if not found and (pictures := _picture_source(path)) is not None:
        return [pictures]
    return [_one_dataset(dataset) for dataset in found or recognise(path)]  # which says what it looked for


def _picture_source(path: Path) -> Facts | None:
    """Facts about a folder as ``vosdata synth`` sees it; None where it has no cutouts and is no known collection."""
    from synth.sources import open_backgrounds, open_objects

    try:
        backgrounds = open_backgrounds(path)
    except SourceError:
        return None
    try:
        objects = open_objects(path)
    except SourceError:
        objects = None
    if objects is None and not backgrounds.licence:
        return None  # any folder of pictures would do for backgrounds; that says nothing
    values = {
        "name": backgrounds.name,
        "cutouts": 0 if objects is None else len(objects),
        "left_out": 0 if objects is None else objects.num_left_out,
        "backgrounds": len(backgrounds),
        "licence": backgrounds.licence,
    }
    problems = [*backgrounds.problems, *(() if objects is None else objects.problems)]
    rows = tuple((one.name, one.reason) for one in problems[:MAX_PROBLEMS])
    tables = (Table("unusable_files", ("name", "reason"), rows),) if rows else ()
    return Facts("source of pictures", str(path), {**values, "unusable": len(problems)}, tables)


def _one_dataset(dataset: "Dataset") -> Facts:
    rows = []
    for name in dataset.split_names:
        skipped: list[tuple[str, str]] = []
        sequences = dataset.sequences(name, skipped)
        frames = sum(sequence.num_frames for sequence in sequences)
        annotated = sum(sum(sequence.annotated) for sequence in sequences)
        num_bytes = sum(sequence.num_bytes for sequence in sequences)
        rows.append((name, len(sequences), frames, annotated, num_bytes, len(skipped), dataset.frame_rate(sequences)))
    columns = ("split", "sequences", "frames", "annotated", "bytes", "unusable", "frame_rate")
    values = {
        "title": dataset.title,
        "name": dataset.name,
        "resolution": dataset.resolution,
        "masks": "any value but 0 is the object" if dataset.union else "one id per object",
        "licence": dataset.licence,
        "notes": list(dataset.notes),
    }
    return Facts("dataset", str(dataset.root), values, (Table("splits", columns, tuple(rows)),))


def file_facts(path: Path) -> Facts:
    """Facts about one picture or mask file.

    Raises:
        BadFileError: it is neither JPEG nor PNG, or damaged.
    """
    data = path.read_bytes()
    try:
        height, width = image_size(data)
        values = {"form": image_suffix(data), "size": f"{height}x{width}", "bytes": len(data)}
        if image_suffix(data) == "png":
            try:
                mask = decode_mask(data)
            except BadFileError as reason:
                return Facts("picture", str(path), {**values, "no_mask_because": str(reason)})
            stats = object_stats(mask)
            rows = tuple(zip(stats.ids.tolist(), stats.areas.tolist(), map(str, stats.boxes.tolist()), strict=True))
            values |= {"background_pixels": int((mask == 0).sum()), "void_pixels": int((mask == 255).sum())}
            return Facts("mask", str(path), values, (Table("objects", ("id", "pixels", "box"), rows),))
        return Facts("picture", str(path), values)
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from error
