"""Processes that begin where the libraries are loaded already, so that dozens need not load them.

They are forks of a server that does nothing else. A fork of the test's own process gets none of its
threads but all that these hold; where an earlier test had trained, torch then ended the fork with
"terminate called after throwing an instance of 'std::system_error'"."""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from pathlib import Path

USERS = ["killed_run", "stopped"]  # what the processes run, and by it the libraries


def processes() -> ForkServerContext:
    """Return the context of such processes: ``processes().Process(target=..., args=...)``."""
    # The server finds what it preloads by this variable only, and says nothing if it does not.
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(USERS)
    return context
