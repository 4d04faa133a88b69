"""Moves Colab's /content, which only root can make, into $FAKE_COLAB_CONTENT.

$FAKE_COLAB_WITHOUT names packages that are not installed there.
"""

import os
import sys
from pathlib import Path

import s2i_lib.drive

s2i_lib.drive.COLAB_MOUNT = Path(os.environ["FAKE_COLAB_CONTENT"], "drive", "MyDrive")
sys.modules.update(dict.fromkeys(os.environ.get("FAKE_COLAB_WITHOUT", "").split()))
