"""A stream's state: where it is and what determines its order, as a few numbers and names; and going on from one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vosdata.streaming.curriculum import Curriculum
from vosdata.streaming.mix import AnySet, Origin, SnippetOrder

_PLACE = ("epoch", "position", "drawn", "since")
_FIXED = ("seed", "epoch_size")
"""What ties positions to draws and so cannot change within a run."""


def describe_state(order: SnippetOrder, position: int, augment: str | None) -> dict[str, Any]:
    """The state at a global position, as JSON.

    Its size is about 400 bytes and 50 for each shard set, at any position.

    Args:
        order: the stream's order.
        position: global position of the next global batch.
        augment: name of the albumentations pipeline.
    """
    epoch, place = divmod(position, order.epoch_size)
    settings, rule, origin = order.settings, order.settings.rule, order.origin
    return {
        "epoch": epoch,
        "position": place,
        "drawn": list(order.drawn(position)),
        "since": {"position": origin.position, "drawn": list(origin.drawn)},
        "seed": settings.seed,
        "epoch_size": order.epoch_size,
        "sets": [list(one) for one in zip(*_describe_sets(order), strict=True)],
        "eligible": [len(records) for records in order.eligible],
        "snippet": rule.num_frames,
        "size": list(rule.size),
        "objects": _describe(rule.objects),
        "min_object_pixels": rule.min_object_pixels,
        "gap": [_describe(one) for one in rule.gap],
        "gap_unit": rule.gap_unit,
        "reverse": rule.reverse,
        "later": rule.later,
        "shuffle": settings.shuffle,
        "windows": list(order.windows),
        "flip": settings.flip,
        "augment": augment,
    }


def _describe_sets(order: SnippetOrder) -> tuple[list[str], list[str], list[str]]:
    """Name, checksum and weight of every set."""
    names = [f"{one.name}/{one.split}" for one in order.sets]
    contents = [_content(one, excluded) for one, excluded in zip(order.sets, order.excluded, strict=True)]
    if all(weight.constant for weight in order.weights):
        shares = order.interleave.segments[0].shares
        return names, contents, [f"{share}/{sum(shares)}" for share in shares]
    return names, contents, [str(_describe(weight)) for weight in order.weights]


def _content(shard_set: AnySet, excluded: tuple[str, ...]) -> str:
    """What a set offers: its checksum, and a hash of the sequences that are excluded, if any."""
    checksum = str(shard_set.description["checksum"])
    if not excluded:
        return checksum
    digest = hashlib.blake2b(json.dumps(excluded).encode(), digest_size=4).hexdigest()
    return f"{checksum} without {len(excluded)} sequences ({digest})"


def _describe(value: Curriculum | str) -> Any:
    """A constant as it is; what changes as a short name of its points."""
    if isinstance(value, str):
        return value
    plain = value.plain()
    if value.constant:
        return plain
    return f"{value.kind} {hashlib.blake2b(json.dumps(plain).encode(), digest_size=4).hexdigest()}"


def go_on(order: SnippetOrder, state: Mapping[str, Any], augment: str | None, changes: bool) -> SnippetOrder:
    """Fits an order to a state that is to be continued.

    Args:
        order: the stream's order, as its settings say.
        state: the saved state.
        augment: name of the stream's albumentations pipeline.
        changes: whether the stream's own settings shall hold from the state's position on, where they differ.

    Returns:
        The order from the state's position on; with the settings unchanged, from the state's own origin on.

    Raises:
        ValueError: the state is damaged, or belongs to another order; the message names the difference.
    """
    own = describe_state(order, order.origin.position, augment)
    if state.keys() != own.keys():
        raise ValueError(f"{_OTHER} expected the keys {sorted(own)}, got {sorted(state)}")
    _check_numbers(state)
    if order.settings.epoch_size is None and (changes or state["since"]["position"]):
        own["epoch_size"] = state["epoch_size"]  # an epoch keeps its length when what it is drawn from changes
    differing = [key for key in own if key not in _PLACE and state[key] != own[key]]
    fixed = [key for key in differing if key in _FIXED or not changes]
    if fixed:
        hint = "" if changes or set(fixed) & set(_FIXED) else "; allow_changes=True goes on with the new settings"
        raise ValueError(f"{_OTHER} {_difference(fixed[0], state[fixed[0]], own[fixed[0]])}{hint}")
    position = state["epoch"] * state["epoch_size"] + state["position"]
    if differing:
        origin = Origin(position, _carry_over(state, own))
    else:
        origin = Origin(state["since"]["position"], tuple(state["since"]["drawn"]))
    return order.continued(origin, state["epoch_size"])


_OTHER = "the state belongs to another stream:"


def _carry_over(state: Mapping[str, Any], own: dict[str, Any]) -> tuple[int, ...]:
    """How often each present set was drawn, by what the state says of the sets then.

    A pass over a set goes on where it was, if the order within the pass is still the same; else the next pass begins.
    """
    then: list[Any] = list(state["sets"])
    drawn = []
    for number, (name, content, _) in enumerate(own["sets"]):
        old = next((i for i, one in enumerate(then) if one is not None and one[:2] == [name, content]), None)
        if old is None:
            drawn.append(0)
            continue
        then[old] = None
        length, passes = own["eligible"][number], -(-state["drawn"][old] // state["eligible"][old])
        same = old == number and state["shuffle"] == own["shuffle"]
        same = same and all(state[key][old] == own[key][number] for key in ("eligible", "windows"))
        drawn.append(state["drawn"][old] if same else passes * length)
    return tuple(drawn)


def _check_numbers(state: Mapping[str, Any]) -> None:
    """Refuses a state whose numbers cannot be.

    Raises:
        ValueError: one is missing, no whole number, or out of range.
    """
    num_sets = len(state["sets"]) if isinstance(state["sets"], list) else 0
    since = state["since"] if isinstance(state["since"], Mapping) else {}
    numbers: dict[str, list[Any]] = {
        "epoch": [state["epoch"]],
        "position": [state["position"]],
        "epoch_size": [state["epoch_size"]],
        "drawn": list(state["drawn"]),
        "eligible": list(state["eligible"]),
        "since": [since.get("position"), *since.get("drawn", ())],
    }
    for key, values in numbers.items():
        least = 1 if key in ("epoch_size", "eligible") else 0
        if not all(type(value) is int and value >= least for value in values):
            raise ValueError(f"{_OTHER} {key} {state[key]!r} is out of range")
    place = state["epoch"] * state["epoch_size"] + state["position"]
    if state["position"] >= state["epoch_size"] or place < since["position"]:
        raise ValueError(f"{_OTHER} position {state['position']!r} is out of range")
    sizes = [len(numbers["drawn"]), len(numbers["eligible"]), len(numbers["since"]) - 1, len(state["windows"])]
    if not num_sets or sizes != [num_sets] * 4 or not all(len(one) == 3 for one in state["sets"]):
        raise ValueError(f"{_OTHER} it speaks of {num_sets} shard sets and has {sizes} numbers for them")


def _difference(key: str, saved: Any, own: Any) -> str:
    if key == "sets":
        return f"shard sets were {_named(saved)}, here they are {_named(own)}"
    return f"{key} was {saved!r}, here it is {own!r}"


def _named(sets: list[list[str]]) -> str:
    return ", ".join(f"{name} (weight {weight}, content {content})" for name, content, weight in sets)
