"""The microphone in Colab without widgets: for a runtime or browser where widgets get no sound.

Shares recorder.js with the widget; what was said comes back through ``eval_js`` in base64 pieces.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import S2iError
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.microphone import pcm_to_float
from s2i_lib.widgets.texts import catalogue
from s2i_lib.widgets.transport import CHUNK_BYTES

if TYPE_CHECKING:
    import numpy as np


def record(
    max_s: float = 60.0,
    silence_s: float = 0.0,
    *,
    eval_js: Callable[[str], Any] | None = None,
) -> np.ndarray:
    """Show a button below the cell, wait for one recording, return it.

    Returns
    -------
    np.ndarray
        float32 in -1 to 1, 16 kHz, shape = (n_samples,)

    Raises
    ------
    S2iError
        When the microphone cannot be had; the browser's reason in the same words as the widget's.
    """
    run = eval_js or _find_eval_js()
    options = json.dumps({"maxS": max_s, "silenceS": silence_s})
    texts = json.dumps(catalogue())
    style = json.dumps(join_styles("microphone/microphone.css"))
    script = join_modules("microphone/colab.js").removesuffix("\n")
    answer = run(f"(() => {{ {script}\nreturn recordOnce({options}, {style}, {texts}); }})()")
    if "message" in answer:
        raise S2iError(answer["message"])
    pieces = [
        base64.b64decode(run(f"window.s2iPiece({start}, {CHUNK_BYTES})"))
        for start in range(0, answer["size"], CHUNK_BYTES)
    ]
    data = b"".join(pieces)
    if len(data) != answer["size"] or zlib.crc32(data) != answer["crc"]:
        raise S2iError("The recording was damaged on its way. Run the cell and speak again.")
    return pcm_to_float(data)


def _find_eval_js() -> Callable[[str], Any]:
    try:
        from google.colab import output
    except ImportError:
        raise S2iError(
            "This way of recording is for Colab only. Here, use "
            "s2i_lib.widgets.microphone.Microphone, or give a recording as a file."
        ) from None
    return output.eval_js
