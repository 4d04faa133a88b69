"""Share one command among several processes (`accelerate launch -m s2i_lib ...`)."""

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
        """Return whether there is no other process."""
        return self._state is None

    @property
    def is_main(self) -> bool:
        """Return whether this is the one that reports for all."""
        return self._state is None or self._state.is_main_process

    @property
    def mark(self) -> str:
        """Return what tells this process's files from the others'; nothing where it is alone."""
        return "" if self._state is None else f"-p{self._state.process_index}"

    def share(self, things: Sequence[T]) -> list[T]:
        """Return the part of ``things`` that falls to this process: neighbours, in their order."""
        if self._state is None:
            return list(things)
        if self._state.process_index >= len(things):
            return []  # accelerate would give it the last one a second time
        with self._state.split_between_processes(list(things)) as mine:
            return mine

    def gather(self, mine: Sequence[T]) -> list[T]:
        """Return what all processes have, in the order of their shares; all have to call it."""
        if self._state is None:
            return list(mine)
        from accelerate.utils import gather_object

        return gather_object(list(mine))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the body in the main process first: one downloads, the others find it."""
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
    """Return what the main process has for ``value``, in every process."""
    from accelerate.utils import broadcast_object_list

    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]
