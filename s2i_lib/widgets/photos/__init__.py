"""What the camera and the upload widget share: the strip of photos, with their count and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import say_fault
from s2i_lib.widgets.texts import catalogue
from s2i_lib.widgets.transport import ByteWidget

if TYPE_CHECKING:
    from s2i_lib.widgets.photos.folder import PhotoFolder


class PhotoWidget(ByteWidget):
    """Shows the photos of a store, adds what the browser sends, deletes with undo.

    Parameters
    ----------
    store : PhotoFolder
        Where photos are kept. The widget shows what is in there already, too.
    """

    photos = traitlets.List(traitlets.Unicode(), help="names, as in the store").tag(sync=True)
    # DreamBooth needs 3 to 5 (Ruiz et al. 2023); past 30, variety stops growing.
    fewest = traitlets.Int(4, help="photos that a subject should have").tag(sync=True)
    most = traitlets.Int(30, help="photos that are of use for a subject").tag(sync=True)
    n_removed = traitlets.Int(0, help="deleted photos that can be brought back").tag(sync=True)
    verdicts = traitlets.Dict(help="photo -> whether it is used (kept), and why").tag(sync=True)
    texts = traitlets.Dict(help="language -> key -> text").tag(sync=True)
    shows_strip = traitlets.Bool(True, help="whether the photos are shown below").tag(sync=True)

    def __init__(self, store: PhotoFolder, **kwargs: Any) -> None:
        super().__init__(texts=catalogue(), **kwargs)
        self.store = store
        self._removed: dict[str, bytes] = {}
        self.refresh()

    def refresh(self) -> None:
        """Show what the store has now."""
        self.photos = self.store.names()

    def _received(self, data: bytes, meta: dict[str, Any]) -> list[str]:
        added = self.store.add(str(meta.get("name", "photo.jpg")), data)
        self.problem = self.problem_code = ""
        if self.store.refused:
            self.send({"type": "complaint", "text": self._what_was_taken(added)})
        self.refresh()
        return added

    def _what_was_taken(self, added: list[str]) -> str:
        count = "1 photo" if len(added) == 1 else f"{len(added)} photos"
        refused = self.store.refused
        more = f" And {len(refused) - 3} more." if len(refused) > 3 else ""
        not_taken = f" Not taken: {' '.join(refused[:3])}{more}" if refused else ""
        return f"{count} copied.{not_taken}"

    def _asked(self, name: str) -> bytes:
        return self.store.thumbnail(name)

    def _told(self, message: dict[str, Any]) -> None:
        try:
            if message["type"] == "remove" and message["name"] in self.store.names():  # not twice
                self._removed[message["name"]] = self.store.remove(message["name"])
            elif message["type"] == "undo" and self._removed:
                name = next(reversed(self._removed))
                self.store.add(name, self._removed[name])
                del self._removed[name]
            elif message["type"] == "folder":
                added = self.store.add_folder(message["folder"])
                kind = "complaint" if self.store.refused else "said"
                self.send({"type": kind, "text": self._what_was_taken(added)})
            self.refresh()
            self.n_removed = len(self._removed)
        except (S2iError, OSError) as error:
            self.send({"type": "complaint", "text": say_fault(error)})
