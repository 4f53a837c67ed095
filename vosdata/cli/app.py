"""Assembles the commands and turns errors into one line and an exit status."""

import importlib
import sys
from typing import Any

import typer

from shards.atomic import FULL
from shards.errors import VosDataError

# The base of every wrong call that the parser finds; typer exports only its subclasses.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT."""

COMMANDS = {
    "synth": "Make SynthVOS: cut-out objects moving over photographs.",
    "shard": "Pack DAVIS, YouTube-VOS and look-alike folders into shards.",
    "train": "Train A-GAME from shards.",
    "eval": "Segment a dataset with a checkpoint and score it.",
    "score": "Score predicted masks as the official tools do.",
    "segment": "Segment a video from its first mask.",
    "inspect": "Say what a folder, shard set or checkpoint holds.",
    "verify": "Check every byte of a shard set against its checksums.",
    "index": "Make the index of a folder of tars anew.",
    "export": "Write shard sets as parquet, DAVIS, YouTube-VOS, tars.",
    "view": "Show sequences and masks as picture, video or page.",
    "bench": "Measure how fast a shard set streams on this machine.",
    "demo": "The whole road on built-in pictures, with no download.",
}


def build(called: str | None) -> typer.Typer:
    """Makes the application. Only the called command is imported; the others are listed by their summary."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback()
    def overview() -> None:
        """The data engine for video object segmentation: SynthVOS, shards, streams and a compact A-GAME."""

    for name, summary in COMMANDS.items():
        if name == called:
            app.command(name)(importlib.import_module(f"vosdata.cli.{name}").command)
        else:
            app.command(name, help=summary)(_not_called)
    return app


def _not_called() -> None:
    """Stands in for a command that is only listed."""


def run(arguments: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        command = typer.main.get_command(build(called))
        status = command.main(args=arguments, prog_name="vosdata", standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt  # the parser has caught it and made a status of it
        return status if isinstance(status, int) else 0
    except USAGE_ERROR as error:
        message = error.format_message().replace(": Value error, ", ": ")  # whose error it is says nothing to users
        print(message if message.startswith("Usage:") else f"vosdata: {message}", file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print("vosdata: interrupted; the same command continues where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except VosDataError as error:
        print(f"vosdata: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"vosdata: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        what_to_do = "; make room, then the same command continues" if error.errno in FULL else ""
        where = f": {error.filename}" if error.filename else ""
        print(f"vosdata: {error.strerror or error}{where}{what_to_do}", file=sys.stderr)
        return 1
