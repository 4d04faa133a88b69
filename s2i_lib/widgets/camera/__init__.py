"""Photographs a subject with the computer's or the phone's camera."""

from __future__ import annotations

import traitlets

from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.photos import PhotoWidget


class Camera(PhotoWidget):
    """Live preview, one shot or a countdown burst; each photo goes to the store as JPEG.

    The preview is mirrored, as a mirror would be; the file is not. Pictures have the camera's full
    resolution.
    """

    _esm = join_modules("camera/camera.js")
    _css = join_styles("photos/photos.css", "camera/camera.css")

    burst = traitlets.Int(5, help="photos in a burst").tag(sync=True)
    countdown_s = traitlets.Int(3, help="seconds before a burst").tag(sync=True)
    pause_s = traitlets.Float(1.5, help="between photos of a burst: time to move").tag(sync=True)
