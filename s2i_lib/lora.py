"""Low-rank additions to a model: PEFT made ready for them, and merged into what they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Let whoever looks for ``packages`` meanwhile find that they are not installed.

    What another thread hides already is left to it.
    """
    own = [name for name in packages if sys.modules.get(name, "not imported yet") is not None]
    seen = {name: sys.modules[name] for name in own if name in sys.modules}
    sys.modules.update(dict.fromkeys(own))  # type: ignore[arg-type]  # None: as Python documents it
    try:
        yield
    finally:
        for name in own:
            del sys.modules[name]
        sys.modules.update(seen)


def ready_peft() -> None:
    """Have PEFT settle that there is no torchao, where the one that is there is too old for it.

    PEFT asks for every layer whether its weights are torchao's, which none of ours are, and raises
    ImportError where it finds a version that it does not take, as Colab's 0.10. It keeps the first
    answer. A torchao that it takes stays in sight: somebody else may need it in this session.
    """
    from peft import import_utils

    try:
        import_utils.is_torchao_available()
    except ImportError:
        with hidden("torchao"):
            import_utils.is_torchao_available()
