"""Moves Colab's /content, which only root can make, into $FAKE_COLAB_CONTENT."""

import os
from pathlib import Path

import s2i_lib.drive

s2i_lib.drive.COLAB_MOUNT = Path(os.environ["FAKE_COLAB_CONTENT"], "drive", "MyDrive")
