"""One page from photos to "Bella on a beach": photograph, teach, speak, without a line of code.

The page is made of the widgets that there are (camera, upload, studio) and of cards of its own
between them. Three panels open as one goes; what was begun goes on by itself after a restart, and
what can be known is not asked.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ipywidgets

from s2i_lib.errors import S2iError
from s2i_lib.photos.dataset import sample_subject
from s2i_lib.photos.manifest import Dataset
from s2i_lib.photos.subject import Subject, list_subjects, load_subject
from s2i_lib.storage.disk import say_fault
from s2i_lib.storage.files import data_uri
from s2i_lib.storage.layout import Drive
from s2i_lib.widgets.app.checking import (
    CheckedPhotos,
    Checking,
    checked_before,
    describe,
    entry_of,
)
from s2i_lib.widgets.app.naming import make_subject
from s2i_lib.widgets.app.part import Message, Part
from s2i_lib.widgets.app.teaching import NOTE, Progress, Teaching

if TYPE_CHECKING:
    from s2i_lib.photos.inspection import Look
    from s2i_lib.widgets.photos import PhotoWidget
    from s2i_lib.widgets.studio import Studio

log = logging.getLogger(__name__)

FACE_PX = 128
PANELS = ("photos", "teach", "speak")
_opened: dict[Path, App] = {}


def open_app(drive: Drive, **options: Any) -> App:
    """Return the page of a Drive; run again, the same one, with all that goes on in it.

    Parameters
    ----------
    **options
        Arguments of `FinetuneRun` that differ from what it chooses.
    """
    key = drive.root.absolute()
    try:
        if key in _opened:
            _opened[key].look_again()
        else:
            _opened[key] = App(drive, **options)
    except OSError as error:
        raise S2iError(say_fault(error)) from error
    return _opened[key]


class App(ipywidgets.VBox):
    """Photos, Teach, Speak: three panels, and what belongs to all of them above and below.

    Parameters
    ----------
    **options
        Arguments of `FinetuneRun` that differ from what it chooses.
    """

    def __init__(self, drive: Drive, **options: Any) -> None:
        self.drive = drive
        self.subject: Subject | None = None
        self.teaching = Teaching(drive, self._show_teaching, **options)
        self.checking = Checking(
            self._say_of_photos, self._take_look, self._take_dataset, self._fail_to_check
        )
        self.studio: Studio | None = None
        self._portraits: dict[Path, str] = {}
        self._changing = threading.RLock()
        self.faces = Part("faces", self._told_faces)
        self.heads = {
            name: Part(name, self._told_panel, is_open=name == "photos") for name in PANELS
        }
        self.keep = Part("keep", self._told_keep, self._page)
        self._bodies = {name: ipywidgets.VBox() for name in ("photos", "speak")}
        self._pairs: dict[str, list[PhotoWidget]] = {}  # by subject: photos may still come for one
        self._widgets: list[PhotoWidget] = []
        boxes = [self._box(name) for name in PANELS]
        self._boxes = dict(zip(PANELS, boxes, strict=True))
        super().__init__([self.faces, *boxes, self.keep])
        self.add_class("s2i-app")
        self._begin()

    def _box(self, name: str) -> ipywidgets.VBox:
        body = [self._bodies[name]] if name in self._bodies else []
        box = ipywidgets.VBox([self.heads[name], *body])
        box.add_class("s2i")
        return box

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is checked, planned or trained; never in a cell of the page."""
        return self.checking.wait(timeout_s) and self.teaching.wait(timeout_s)

    def look_again(self) -> None:
        """Show what the Drive has now, and go on with what it kept from being done."""
        self._show_faces(list_subjects(self.drive))
        if self.subject is None:
            return
        for widget in self._widgets:
            widget.refresh()
        if self.heads["photos"].data.get("complaint"):
            self._check()
        self.teaching.go_on(self.subject.name)
        if self.heads["speak"].data.get("complaint"):
            self._update_studio()

    def _begin(self) -> None:
        """Show the subject that was worked on last, and go on with what was cut short."""
        subjects = list_subjects(self.drive)
        for subject in subjects:
            if self.teaching.go_on(subject.name):
                self._choose(subject)
                return
        newest = max(subjects, key=lambda one: _touched(self.drive, one.name), default=None)
        self._choose(newest)

    # ---- Who it is ----

    def _told_faces(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        self.faces.show(complaint="", messages=[])
        if kind == "choose":
            self._choose(load_subject(self.drive, str(message["name"])))
        elif kind == "new":
            self._choose(None)
        elif kind == "sample":
            self._choose(sample_subject(self.drive))
        elif kind == "subject":
            self._choose(make_subject(self.drive, message))

    def _choose(self, subject: Subject | None) -> None:
        """Show a subject in all panels; None: the form for a new one.

        What the Drive has is read first, so that where it is away all stays as it was.
        """
        subjects = list_subjects(self.drive)
        widgets = self._photo_widgets(subject.name) if subject else []
        self.checking.cancel()
        self.subject, self._widgets = subject, widgets
        self._bodies["photos"].children = widgets
        self._show_faces(subjects)
        for name in PANELS:
            self._boxes[name].layout.display = "none" if subject is None else ""
        self.keep.show(name=subject.name if subject else "", traces=None, made="", complaint="")
        self.keep.layout.display = "none" if subject is None else ""
        if subject is None:
            return
        self._open("photos", is_open=True)
        self._open("teach", is_open=False)
        self._open("speak", is_open=self.studio is not None)
        self.heads["teach"].show(photos=[])
        photos = widgets[0].photos
        self.heads["photos"].show(messages=[], advice=[], left_out=[], complaint="")
        if dataset := checked_before(self.drive, subject.name, photos):
            self._take_dataset(dataset)
        elif photos:
            self._check()
        self._show_progress(subject.name, self.teaching.of(subject.name))
        self.heads["speak"].show(is_unnamed=False)  # that was said of somebody else's picture
        self._update_studio()

    def _show_faces(self, subjects: list[Subject]) -> None:
        self.faces.show(
            subjects=[{"name": s.name, "thumb": self._face_of(s.name)} for s in subjects],
            chosen=self.subject.name if self.subject else "",
        )

    def _face_of(self, name: str) -> str:
        """A photo of a subject as an address; "" where there is none that can be read."""
        store = CheckedPhotos(self.drive.subject(name) / "photos")
        try:
            photo = store.path / store.names()[0]
            if photo not in self._portraits:
                self._portraits[photo] = data_uri(
                    "image/jpeg", store.thumbnail(photo.name, FACE_PX)
                )
            return self._portraits[photo]
        except (IndexError, S2iError, OSError):
            return ""

    # ---- Photos ----

    @property
    def _store(self) -> CheckedPhotos:
        return cast(CheckedPhotos, self._widgets[0].store)

    def _photo_widgets(self, name: str) -> list[PhotoWidget]:
        """Return camera and upload of a subject; what is still sent with them comes to it alone."""
        from s2i_lib.widgets.camera import Camera
        from s2i_lib.widgets.upload import Upload

        if name not in self._pairs:
            store = CheckedPhotos(self.drive.subject(name) / "photos")
            self._pairs[name] = [Camera(store, shows_strip=False), Upload(store)]
            for widget in self._pairs[name]:
                widget.observe(self._photos_changed, "photos")
        for widget in self._pairs[name]:
            widget.refresh()
        return self._pairs[name]

    def _photos_changed(self, change: dict[str, Any]) -> None:
        if change["owner"] not in self._widgets:
            return  # of another subject: they are looked at once that is chosen again
        with self._changing:
            for widget in self._widgets:
                if widget is not change["owner"] and widget.photos != change["new"]:
                    widget.photos = change["new"]
                    return  # which brings this about once more
        if change["new"]:
            self._check()
        else:
            self.checking.cancel()
            self.heads["photos"].show(messages=[], advice=[], left_out=[])
        if len(change["new"]) <= 1:
            self._show_faces(list_subjects(self.drive))

    def _check(self) -> None:
        assert self.subject is not None
        self.heads["photos"].show(complaint="")
        self.checking.check(self.drive, self.subject)

    def _say_of_photos(self, messages: tuple[Message, ...]) -> None:
        if not self.heads["photos"].data.get("complaint"):  # which stands until all is well
            self.heads["photos"].show(messages=messages)

    def _take_look(self, name: str, look: Look) -> None:
        """Show what was seen of one photo; what becomes of it the whole set may change."""
        photo = look.verdict.photo
        for widget in self._pairs.get(name, []):
            cast(CheckedPhotos, widget.store).take_look(look)
            widget.verdicts = {**widget.verdicts, photo: entry_of(look.verdict)}

    def _fail_to_check(self, error: Exception) -> None:
        from s2i_lib.pipeline import Cancelled

        if isinstance(error, Cancelled):
            return
        if not isinstance(error, (S2iError, OSError)):
            log.error("Checking photos has failed", exc_info=error)
        said = say_fault(error) if isinstance(error, (S2iError, OSError)) else repr(error)
        self.heads["photos"].show(messages=[], complaint=said)

    def _take_dataset(self, dataset: Dataset) -> None:
        """Show what became of each photo, and what teaching them would take."""
        if self.subject is None or dataset.subject.name != self.subject.name:
            return
        self._store.take_dataset(dataset)
        checked = describe(dataset)
        for widget in self._widgets:
            widget.verdicts = checked.verdicts
        said = {"advice": list(checked.advice), "left_out": list(checked.left_out)}
        self.heads["photos"].show(messages=checked.messages, complaint="", **said)
        shown = [v.photo for v in dataset.verdicts if v.is_kept][:4]
        photos = [data_uri("image/jpeg", self._store.thumbnail(name, FACE_PX)) for name in shown]
        self.heads["teach"].show(photos=photos)
        self._show_faces(list_subjects(self.drive))
        if dataset.images:
            self._open("teach", is_open=True)
            self.teaching.look(dataset.subject.name)

    # ---- Teach ----

    def _told_panel(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self.subject is None:
            return  # a second page was quicker
        if kind == "open":
            self._open(str(message["part"]), is_open=bool(message["is_open"]))
            return
        name = self.subject.name
        self.heads["teach"].show(complaint="")
        if kind == "start":
            self.teaching.start(name)
            self._open("photos", is_open=False)
        elif kind == "train_on":
            self.teaching.train_on(name)
        elif kind == "stop":
            self.teaching.stop(name)

    def _show_teaching(self, name: str) -> None:
        """Show how far a subject is; once it is learned, the studio draws it."""
        progress = self.teaching.of(name)
        if self.subject is not None and name == self.subject.name:
            self._show_progress(name, progress)
        if progress.state in ("done", "stopped", "failed"):
            self._update_studio()

    def _show_progress(self, name: str, progress: Progress) -> None:
        with self._changing:
            self.heads["teach"].show(
                name=name,
                state=progress.state,
                messages=progress.messages,
                share=progress.share,
                likeness=progress.likeness,
                before=progress.before,
                now=progress.now,
                complaint=progress.complaint,
                log=progress.log,
                chosen=progress.chosen,
            )
            self.heads["speak"].show(
                name=name, is_taught=progress.is_taught, is_outdated=progress.is_outdated
            )
            if progress.state == "done":
                self._open("photos", is_open=False)
                self._open("teach", is_open=True)
                self._open("speak", is_open=True)

    # ---- Speak ----

    def _open(self, part: str, *, is_open: bool) -> None:
        self.heads[part].show(is_open=is_open)
        if part == "speak" and is_open and self.studio is None:
            self._make_studio()
            self.heads["speak"].show(complaint="")
        if part in self._bodies:
            self._bodies[part].layout.display = "" if is_open else "none"

    def _make_studio(self) -> None:
        from s2i_lib.widgets.studio import Studio

        assert self.subject is not None
        self.studio = Studio(self.drive, settings={"subject": self.subject.name})
        self.studio.observe(self._notice_unnamed, ["state", "prompt", "pictures"])
        self._bodies["speak"].children = [self.studio]

    def _update_studio(self) -> None:
        if self.studio is None:
            return
        try:
            self.studio.look_again(self.subject.name if self.subject else "")
        except (S2iError, OSError) as error:  # the next wish says so, too
            self.heads["speak"].show(complaint=say_fault(error))
        else:
            self.heads["speak"].show(complaint="")

    def _notice_unnamed(self, change: dict[str, Any]) -> None:
        """Say so where a picture was drawn for words in which nobody is named."""
        studio = change["owner"]
        is_unnamed = studio.state == "done" and not studio.prompt.get("marks")
        self.heads["speak"].show(is_unnamed=is_unnamed and bool(studio.pictures))

    # ---- Keep, share, go ----

    def _told_keep(self, message: dict[str, Any]) -> None:
        from s2i_lib.privacy import find_traces
        from s2i_lib.widgets.app.keeping import list_traces, write_story

        if self.subject is None:
            return  # a second page was quicker
        kind, name = message["type"], self.subject.name
        if message.get("name", name) != name:
            return  # pressed twice: the one whose traces were listed has been forgotten
        self.keep.show(complaint="", made="")
        if kind == "page":
            title = str(message.get("title") or name)
            path = write_story(self.drive, name, title, with_photos=bool(message["with_photos"]))
            self._page_path = path
            self.keep.show(made=path.name)
        elif kind == "list":
            self.keep.show(**list_traces(self.drive, name, find_traces(self.drive, name)))
        elif kind == "keep":
            self.keep.show(traces=None)
        elif kind == "forget":
            self._forget(name)

    def _page(self, name: str) -> bytes:
        return self._page_path.read_bytes()

    def _forget(self, name: str) -> None:
        from s2i_lib.privacy import find_traces, forget

        self.checking.cancel()
        self.checking.wait()
        self.teaching.forget(name)
        for widget in self._pairs.pop(name, []):
            widget.close()  # what is still being sent must not come after all
        forget(find_traces(self.drive, name))
        if self.studio:
            self.studio.close()
            self._bodies["speak"].children, self.studio = (), None
        self._portraits.clear()
        self._begin()
        self.faces.show(messages=[("app_forgotten", {"name": name})])


def _touched(drive: Drive, name: str) -> float:
    """When somebody last worked on a subject, as seconds since 1970."""
    home = drive.subject(name)
    files = [home / part for part in (NOTE, "manifest.json", "subject.json", "photos")]
    times = []
    for file in files:
        try:
            times.append(file.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)
