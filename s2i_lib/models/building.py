"""One network is built at a time, whichever threads want one.

diffusers builds networks without memory for their weights by putting another function in the place
of ``torch.nn.Module.register_parameter``, for the whole process. A network that another thread
builds meanwhile has no weights either; and of two that load at once, the second takes the first
one's function for torch's own and leaves it there: no layer that is made afterwards, by anybody,
has weights. Of 30 loads in three threads 27 failed. A studio that loads Whisper while its model
loads, and two studios, come to that.

Source: accelerate, ``big_modeling.init_on_device``.
"""

from __future__ import annotations

import threading

building = threading.RLock()
"""Held by whoever makes, or loads, a network of torch's."""
