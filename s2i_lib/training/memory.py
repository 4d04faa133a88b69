"""What training held in memory is let go when it has ended, in any way."""

from __future__ import annotations

import functools
import gc
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def leaving_nothing_in_memory(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate: the model that ``function`` worked with is gone when it has ended, in any way.

    Networks and optimizers refer to each other in circles, and a notebook keeps the traceback of a
    cell that was stopped, with all that its frames hold. Started again, it would find the GPU full
    and go down the memory ladder for nothing.
    """

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except BaseException as error:
            empty_frames(error)
            raise
        finally:
            gc.collect()
            if torch.cuda.is_available():
                with suppress(RuntimeError):  # after some errors CUDA answers nothing any more
                    torch.cuda.empty_cache()

    return call


def empty_frames(error: BaseException) -> None:
    """Let go of what the frames of an error's traceback hold, and of those of its causes."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            found += [one.__cause__, one.__context__]
