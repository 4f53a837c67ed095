"""A stream as a ``torch.utils.data`` dataset, for training loops that want a ``DataLoader``.

    loader = DataLoader(vosdata.torch_dataset("data/shards/synthvos", batch=4), batch_size=None)

The items are whole batches, so the loader must not batch again (``batch_size=None``). Decoding runs ahead in the
stream's own helper process; loader workers would only copy what it has finished, so there must be none
(``num_workers=0``, the default). With torchdata's ``StatefulDataLoader`` the position is part of the loader's state.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, ParamSpec

from torch.utils.data import IterableDataset, get_worker_info

from vosdata.batch import SnippetBatch
from vosdata.stream import SnippetStream

Arguments = ParamSpec("Arguments")


class SnippetDataset(IterableDataset[SnippetBatch]):
    """The batches of a stream; each iteration runs to the end of the epoch, and the next one goes on behind it."""

    def __init__(self, stream: SnippetStream) -> None:
        """Wraps a stream.

        Args:
            stream: where the batches come from; also the way to its order, state and :meth:`SnippetStream.close`.
        """
        self.stream = stream

    def __iter__(self) -> Iterator[SnippetBatch]:
        """Yields the batches up to the end of the epoch.

        Raises:
            ValueError: this is a worker of a loader. Each would decode every batch again.
        """
        worker = get_worker_info()
        if worker is not None:
            raise ValueError(
                f"vosdata.torch_dataset decodes in its own helper process and takes no loader workers, got num_workers="
                f"{worker.num_workers}. Use num_workers=0, and threads=... of the dataset for more speed"
            )
        return iter(self.stream)

    def __len__(self) -> int:
        """Number of batches that the next iteration yields."""
        return len(self.stream)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is; see :meth:`SnippetStream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], *, allow_changes: bool = False) -> None:
        """Continues where a state was taken; see :meth:`SnippetStream.load_state_dict`.

        Raises:
            ValueError: the state belongs to another order.
        """
        self.stream.load_state_dict(state, allow_changes=allow_changes)


def _dataset_of(make_stream: Callable[Arguments, SnippetStream]) -> Callable[Arguments, SnippetDataset]:
    """Gives :func:`torch_dataset` the arguments of the stream, so that neither can lag behind the other."""

    @wraps(make_stream, assigned=())
    def torch_dataset(*arguments: Arguments.args, **options: Arguments.kwargs) -> SnippetDataset:
        """Opens shard sets as a dataset of batches for ``DataLoader(..., batch_size=None)``.

        Takes the arguments of :class:`SnippetStream` and raises what it raises. In a distributed run give ``rank`` and
        ``num_ranks``; samplers and loader wrappers that share an iterable dataset among ranks are not needed.
        """
        return SnippetDataset(make_stream(*arguments, **options))

    return torch_dataset


torch_dataset = _dataset_of(SnippetStream)
