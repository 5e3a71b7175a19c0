"""One model trained by several processes of a node, a GPU each: what a PyTorch hypothesis shares its work with.

The runner starts the processes (``ranks``); each calls ``fit`` with the same data and seed, and the model of the
first is the answer. With one process, which is the rule, no function here changes anything::

    shared = wrap(model)                                # DistributedDataParallel
    for batch in batches:                               # row numbers, the same in every process
        rows = shard(batch)                             # this process's share
        loss = cross_entropy(shared(x[rows]), y[rows], reduction="sum") * n_processes() / len(batch)
        loss.backward()                                 # the mean gradient of the whole batch
        optimizer.step()

Predict with ``model``, not with ``shared``. A TensorFlow hypothesis needs none of this: the runner calls its ``fit``
inside the scope of MirroredStrategy, in which ``model.fit`` shares its batches by itself.
"""

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

# Longest wait for the others to start, and for the slowest of them in a step; one that has died is known at once.
START_SECONDS, STEP_SECONDS = 300, 1800


@dataclass
class _Group:
    """This process among those that train the same model."""

    rank: int = 0
    n_processes: int = 1
    is_used: bool = False
    """Whether the hypothesis has shared anything."""


_group = _Group()


def n_processes() -> int:
    """Return how many processes train this model together."""
    return _group.n_processes


def rank() -> int:
    """Return the number of this process; the model of process 0 is the answer."""
    return _group.rank


def shard(rows: Any) -> Any:
    """Take this process's share of the rows of a batch; with one process, all of them.

    Parameters: ``rows``: an int (their number: gives a slice) or anything that can be sliced, the same in every
    process. Shares are neighbours, in order, and differ by one row at most.
    """
    n_rows = rows if isinstance(rows, int) else len(rows)
    group = _used()
    own = slice(n_rows * group.rank // group.n_processes, n_rows * (group.rank + 1) // group.n_processes)
    return own if isinstance(rows, int) else rows[own]


def wrap(model: Any) -> Any:
    """Wrap a torch.nn.Module so that ``backward`` leaves the mean gradient of all processes in each.

    All start from the weights and buffers of process 0. With one process it is the module itself.
    """
    if _used().n_processes == 1:
        return model
    from torch.nn.parallel import DistributedDataParallel

    # Buffers of process 0 are those that count; sending them at every step would tie predictions together too.
    return DistributedDataParallel(model, forward_sync_buffers=False)


def total(tensor: Any) -> Any:
    """Add up a tensor over the processes, element by element: each gets the same sum, to the last bit."""
    if _used().n_processes == 1:
        return tensor
    from torch import distributed

    tensor = tensor.contiguous()
    distributed.all_reduce(tensor)
    return tensor


def from_first(tensor: Any) -> Any:
    """Give every process the tensor of process 0, which must have the same shape: what they share rests on it."""
    if _used().n_processes == 1:
        return tensor
    from torch import distributed

    tensor = tensor.contiguous()
    distributed.broadcast(tensor, 0)
    return tensor


def is_used() -> bool:
    """Return whether the hypothesis has called any of shard, wrap, total and from_first."""
    return _group.is_used


def join(number: int, n_members: int, device: str, folder: Path) -> None:
    """Make this process number ``number`` of ``n_members``, which meet by a file in ``folder``; wait for all.

    On GPUs they speak NCCL, on CPU Gloo, in both cases over the loopback interface at most.
    """
    import torch
    from torch import distributed

    if device == "cuda":
        torch.cuda.set_device(number)  # what "cuda" means in this process
    if sys.platform == "linux":
        # Otherwise the interface of the host's name is taken, which in a container may not exist.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    store = distributed.FileStore(str(folder / "members"), n_members)
    store.set_timeout(timedelta(seconds=START_SECONDS))
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=number,
        world_size=n_members,
        timeout=timedelta(seconds=STEP_SECONDS),
    )
    _group.rank, _group.n_processes, _group.is_used = number, n_members, False


def leave() -> None:
    """Be one process again."""
    from torch import distributed

    distributed.destroy_process_group()
    _group.rank, _group.n_processes = 0, 1


def _used() -> _Group:
    _group.is_used = True
    return _group
