"""Brings photos from the computer or phone, a zip, or a folder on the Drive."""

from __future__ import annotations

import traitlets

from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.photos import PhotoWidget


class Upload(PhotoWidget):
    """Many files at once, by button or drag and drop, photos or zips; or a folder's path."""

    _esm = join_modules("upload/upload.js")
    _css = join_styles("photos/photos.css", "upload/upload.css")

    accept = traitlets.Unicode(
        "image/*,.heic,.heif,.avif,.tif,.tiff,.zip", help="what the file dialog offers"
    ).tag(sync=True)
