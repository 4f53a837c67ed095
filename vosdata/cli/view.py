"""``vosdata view``: videos and their masks as a picture, a video or a page; a training as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vosdata.view.drawn import DrawnVideo

RECIPE_FILE = "recipe.yaml"  # makes a folder that of a run
NUM_CLIPS = 4  # videos inside a page, which carries them as text: more would make it slow to open


def command(
    path: Annotated[Path, typer.Argument(help="Shard set, dataset folder, folder of predictions, or run folder.")],
    out: Annotated[Path | None, typer.Option(help="Output file: .jpg, .png, .mp4, .webp or .html.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the frames of predictions are (else masks alone); what to show of a run.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a dataset folder.")] = None,
    sequence: Annotated[list[str] | None, typer.Option(help="Show this sequence; repeatable.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many sequences to show, evenly chosen.")] = 12,
    columns: Annotated[int, typer.Option(min=1, help="How many frames of each on a sheet.")] = 6,
    height: Annotated[int, typer.Option(min=16, help="Height of each frame on a sheet, in pixels.")] = 140,
) -> None:
    """Show a shard set, dataset folder or predictions as a contact sheet, a video or a page, and a training as a page.

    Masks are drawn in the DAVIS palette; exact truth of synthetic sets, where it is stored, stands beside them. The
    suffix of the output chooses the form: .jpg is a contact sheet with a row per sequence, .mp4 plays them with their
    masks, .html is one page with both. Without --out a contact sheet named after the folder is written where you are.

    The page of a run folder has its curves, the masks and appearance maps of its best and worst sequences, and needs no
    other file. --data names other sequences to show than those of its best validation.

    \b
    Example:
      vosdata view data/shards/synthvos --out synthvos.jpg
    """
    from vosdata.view.drawn import open_drawn, play, sheet, write_picture
    from vosdata.view.video import write_video

    if (path / RECIPE_FILE).is_file():
        write_run_page(path, out or Path(f"{path.resolve().name}.html"), data, split, rows, columns, height)
        return
    target = out or Path(f"{path.resolve().name or 'view'}.jpg")
    if target.suffix not in (".jpg", ".jpeg", ".png", ".mp4", ".webp", ".html"):
        raise typer.BadParameter(f"{target}: the output must end in .jpg, .png, .mp4, .webp or .html")
    videos = choose(open_drawn(path, split, data), sequence or [], rows)
    if target.suffix == ".html":
        write_page(target, path.resolve().name, videos, columns, height)
    elif target.suffix in (".mp4", ".webp"):
        target = write_video(target, play(videos), videos[0].frame_rate)
    else:
        write_picture(target, sheet(videos, columns, height))
    print(f"{target}: {len(videos)} sequences ({', '.join(video.name for video in videos)})")


def choose(videos: "list[DrawnVideo]", names: list[str], rows: int) -> "list[DrawnVideo]":
    """The named sequences, or ``rows`` evenly chosen ones.

    Raises:
        ValueError: a name is not among them.
    """
    from vosdata.view.drawn import spread

    if not names:
        return [videos[place] for place in spread(len(videos), rows)]
    known = {video.name: video for video in videos}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"there is no sequence {missing[0]!r} here; there are {', '.join(list(known)[:8])}, ...")
    return [known[name] for name in names]


def write_run_page(
    run: Path, target: Path, data: Path | None, split: str | None, rows: int, columns: int, height: int
) -> None:
    """Writes the page of a training.

    Raises:
        BadParameter: the output is no page.
    """
    from shards.atomic import write_atomically
    from vosdata.view.run_page import run_page

    if target.suffix != ".html":
        raise typer.BadParameter(f"{target}: a run is shown as a page; the output must end in .html")
    page = run_page(run, data, split, rows, columns, height)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, page.encode())
    print(f"{target}: the training in {run}")


def write_page(target: Path, title: str, videos: "list[DrawnVideo]", columns: int, height: int) -> None:
    """Writes the page: a section per sequence with a strip of frames, and a clip for the first few."""
    import tempfile

    from shards.atomic import write_atomically
    from vosdata.view.drawn import play, sheet
    from vosdata.view.page import Block, Section, media_file, picture, render_page
    from vosdata.view.video import write_video

    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for place, video in enumerate(videos):
            blocks: list[Block] = [picture(sheet([video], columns, height), video.name)]
            if place < NUM_CLIPS:
                clip = write_video(Path(folder) / f"{place}.mp4", play([video]), video.frame_rate)
                blocks.append(media_file(clip))
            sections.append(Section(video.name, blocks))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, render_page(title, *sections, summary=f"{len(videos)} sequences").encode())
