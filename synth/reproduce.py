"""A SynthVOS set made again from nothing but its dataset.json and the pictures it was made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shards.conflict import differences
from shards.errors import ConflictError, SourceError
from shards.manifest import parse_manifest
from synth.config import SynthConfig
from synth.generate import OnBad, SynthPlan
from synth.types import BackgroundSource, ObjectSource


@dataclass(frozen=True, slots=True)
class Description:
    """What a dataset.json says about how its set was made."""

    path: Path
    """The file."""

    configuration: Mapping[str, Any]
    """Everything that determined the bytes."""

    def plan(self, objects: ObjectSource, backgrounds: BackgroundSource, on_bad: OnBad = "stop") -> SynthPlan:
        """The plan that makes the same bytes again.

        Args:
            objects: the cutouts that it was made of, wherever they are now.
            backgrounds: the backgrounds.
            on_bad: as in :class:`~synth.generate.SynthPlan`.

        Raises:
            ConflictError: other bytes would come out; names what differs: pictures, or the version of vosdata.
            SourceError: a source cannot be used, or the configuration is of another version.
            BadFileError: as in :class:`~synth.generate.SynthPlan`.
        """
        made = self.configuration
        try:
            config = SynthConfig.model_validate(made["synth"])
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise SourceError(
                f"{self.path} has a configuration that this vosdata does not know ({key}); use the vosdata that made it"
            ) from None
        plan = SynthPlan(
            config,
            objects,
            backgrounds,
            made["num_records"],
            made["seed"],
            name=made["name"],
            split=made["split"],
            on_bad=on_bad,
            truth=made["truth"],
        )
        wanted = plan.configuration()
        found = list(differences({key: made.get(key) for key in wanted}, wanted))
        if found:
            raise ConflictError(
                f"{self.path} cannot be made again to the byte: {'; '.join(found)}. Give the same pictures with "
                "--objects and --backgrounds, and use the vosdata that made it"
            )
        return plan


def read_description(path: Path) -> Description:
    """Reads a dataset.json.

    Raises:
        SourceError: there is no such file, it is of no set of drawn scenes, or the scenes were stored ones.
        DamageError: its bytes are not what was written.
    """
    try:
        manifest = parse_manifest(path.read_bytes(), path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    configuration = manifest["configuration"]
    if configuration.get("maker") != "synthvos":
        raise SourceError(f"{path} is not of a set that vosdata synth made")
    if "scenes" in configuration:
        raise SourceError(f"{path} is of a set that was rendered from stored scenes; give those scenes to --from")
    return Description(path, configuration)
