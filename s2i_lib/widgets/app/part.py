"""The cards of the page between its widgets: faces, heads of panels, teaching, keeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import say_fault
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.texts import catalogue
from s2i_lib.widgets.transport import ByteWidget

Message = tuple[str, dict[str, str]]
"""Key of a text, and what its placeholders stand for."""


class Part(ByteWidget):
    """Shows ``data`` as its kind of card does, and hands on what is pressed there.

    Parameters
    ----------
    part : str
        Kind of card: faces, photos, teach, speak or keep.
    told : callable
        ``told(message)`` is called with what was pressed: a ``type``, and what belongs to it.
    asked : callable
        ``asked(name)`` gives the bytes that the page asks for.
    """

    _esm = join_modules("app/app.js")
    _css = join_styles("studio/studio.css", "app/app.css")  # its "More" and notes

    part = traitlets.Unicode(help="faces, photos, teach, speak or keep").tag(sync=True)
    data = traitlets.Dict(help="what the card shows").tag(sync=True)
    texts = traitlets.Dict(help="language -> key -> text").tag(sync=True)

    def __init__(
        self,
        part: str,
        told: Callable[[dict[str, Any]], None],
        asked: Callable[[str], bytes] | None = None,
        **data: Any,
    ) -> None:
        super().__init__(part=part, data=data, texts=catalogue())
        self._tell, self._ask = told, asked

    def show(self, **changes: Any) -> None:
        """Change some of what the card shows."""
        with self._changing:
            self.data = {**self.data, **changes}

    def _told(self, message: dict[str, Any]) -> None:
        if message["type"] == "hello":
            return  # a page that is drawn; nothing was pressed
        try:
            self._tell(message)
        except (S2iError, OSError) as error:
            self.show(complaint=say_fault(error))

    def _asked(self, name: str) -> bytes:
        return self._ask(name) if self._ask else super()._asked(name)


def drop_what_is_displayed() -> None:
    """Show none of the library's bars: what a thread displays has no cell to appear in."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    publisher: Any = getattr(get_ipython(), "display_pub", None)
    if hasattr(publisher, "register_hook"):  # a kernel's; hooks are a thread's own
        publisher.register_hook(lambda message: None)
