"""Tells sets whose shards are fetched whole which of them come next, a window of shards before they are read."""

from vosdata.streaming.engine import Schedule
from vosdata.streaming.mix import REMOTE_WINDOW, SnippetOrder

_SAMPLED = 10_000
"""Positions over which a set's share of the draws is measured."""

_MAX_DISTANCE = 100_000
"""Snippets that are looked ahead at most."""

_MAX_FIRST_LOOKS = 1000
"""Places that are looked at in the beginning; more often than shards change in any window."""


class ShardsAhead:
    """Looks from each position to a later one and has the shard that is read there fetched.

    One for all threads of an engine; picklable.
    """

    def __init__(self, order: SnippetOrder, schedule: Schedule) -> None:
        """Finds out how far to look.

        Args:
            order: says what stands at a position.
            schedule: which positions come.
        """
        self._order = order
        self._schedule = schedule
        self._distance = max(
            (_distance(order, schedule, number) for number, one in enumerate(order.sets) if one.fetches_whole_shards),
            default=0,
        )
        """Snippets of this rank, from where one is read to where shards are asked for; 0 for never."""
        self._begun = False

    def look(self, position: int) -> None:
        """Has shards fetched that will be needed some time after a position of the schedule."""
        if not self._distance:
            return
        if not self._begun:
            self._begun = True
            step = -(-self._distance // _MAX_FIRST_LOOKS)
            for later in range(0, self._distance, step):
                self._ask(self._schedule.later(position, later))
        self._ask(self._schedule.later(position, self._distance))

    def _ask(self, position: int) -> None:
        set_index, record = self._order.locate(position)
        self._order.sets[set_index].prefetch((record,))


def _distance(order: SnippetOrder, schedule: Schedule, number: int) -> int:
    """Snippets of this rank in which a set goes through one window of its shards."""
    shard_set, records = order.sets[number], len(order.eligible[number])
    window = order.windows[number] or REMOTE_WINDOW
    num_shards = max(1, len(shard_set.description["shards"]))
    drawn = order.drawn(schedule.first + _SAMPLED)[number] - order.drawn(schedule.first)[number]
    per_window = records * min(1.0, window / num_shards)
    distance = per_window * _SAMPLED / max(drawn, 1) / schedule.num_ranks
    return max(1, min(int(distance), _MAX_DISTANCE))
