"""One tree for everything that is wrong with files, data or recipes.

    VosDataError
    ├── ShardError          a shard set cannot be used (missing, incomplete, another format version)
    │   └── DamageError     bytes are not what was written: checksum, truncation, undecodable member
    ├── SourceError         a source of cutouts or backgrounds has no recognisable layout, or nothing usable
    │   └── BadFileError    one file of a source or dataset cannot be used
    ├── DatasetError        a dataset folder contradicts itself or its layout is not recognised
    ├── ConflictError       the output exists already, made with another configuration, or is in use
    ├── RecipeError         a recipe does not parse or names unknown keys
    ├── CheckpointError     a checkpoint cannot be read or does not fit the model
    ├── TrainingError       training cannot go on: a loss or gradient is not finite
    ├── HelperError         the process that decodes for a stream cannot be started or has died
    └── ScoreError          predictions and truth cannot be compared

A wrong call of a function is ``ValueError`` or ``TypeError`` instead. Messages say what, where, what was expected, what
was found and what to do, in one line, so that the command line can print them as they are.
"""


class VosDataError(Exception):
    """Base of every error about files, data or recipes."""


class ShardError(VosDataError):
    """A shard set cannot be used: missing, incomplete or of another format version."""


class DamageError(ShardError):
    """Stored bytes are not what was written; the message names shard, record, member and offset."""


class SourceError(VosDataError):
    """A source of cutouts or backgrounds has no recognisable layout or holds nothing usable."""


class BadFileError(SourceError):
    """One file of a source or dataset cannot be used; the message names the file and why."""


class DatasetError(VosDataError):
    """A dataset folder contradicts itself, or its layout is not recognised."""


class ConflictError(VosDataError):
    """The output exists already with another configuration, or another process is writing it."""


class RecipeError(VosDataError):
    """A recipe does not parse, names unknown keys, or asks for something that is not there."""


class CheckpointError(VosDataError):
    """A checkpoint cannot be read or does not fit the model."""


class TrainingError(VosDataError):
    """Training cannot go on: a loss or gradient is not finite; the message names step and snippets."""


class ScoreError(VosDataError):
    """Predictions and truth cannot be compared: missing frames, other sizes, unknown ids."""


class HelperError(VosDataError):
    """The process that decodes for a stream cannot be started or has died; the message says how."""
