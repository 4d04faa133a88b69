"""Several processes on one command (`accelerate launch -m s2i_lib ...`): each takes its share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

T = TypeVar("T")


class Processes:
    """The processes that a launcher started, on one machine or on several; else this one alone."""

    def __init__(self) -> None:
        self._state: PartialState | None = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import torch
            from accelerate import PartialState

            # It gives each process a GPU of its own; without GPUs it has to be told, or it
            # takes each process for the only one.
            self._state = PartialState(cpu=not torch.cuda.is_available())

    @property
    def is_alone(self) -> bool:
        return self._state is None

    @property
    def is_main(self) -> bool:
        """Whether this is the one that reports for all."""
        return self._state is None or self._state.is_main_process

    @property
    def mark(self) -> str:
        """What tells this process's files from those of the others; nothing where it is alone."""
        return "" if self._state is None else f"-p{self._state.process_index}"

    def share(self, things: Sequence[T]) -> list[T]:
        """The part of ``things`` that falls to this process: neighbours, in their order."""
        if self._state is None:
            return list(things)
        if self._state.process_index >= len(things):
            return []  # accelerate would give it the last one a second time
        with self._state.split_between_processes(list(things)) as mine:
            return mine

    def gather(self, mine: Sequence[T]) -> list[T]:
        """What all processes have, in the order of their shares; every process has to call it."""
        if self._state is None:
            return list(mine)
        from accelerate.utils import gather_object

        return gather_object(list(mine))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The body in the main process, then in the others: one downloads, the others find it."""
        if self._state is None:
            yield
            return
        with self._state.main_process_first():
            yield

    def close(self) -> None:
        """End the connection to the other processes."""
        if self._state is not None:
            self._state.destroy_process_group()


def from_main(accelerator: Accelerator, value: Any) -> Any:
    """What the main process has for ``value``, in every process."""
    from accelerate.utils import broadcast_object_list

    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]
