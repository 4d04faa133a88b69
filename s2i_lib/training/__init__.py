"""DreamBooth: from a dataset to weights, and on again after a disconnect.

``finetune.FinetuneRun`` is the way in. It takes a model's recipe for the kind of subject
(``recipes``, ``config``), chooses the run that goes on or begins a new one (``run``), and plans
what fits this machine and the Drive (``plan``, with ``resources``, ``storage_plan`` and
``duration``; on a GPU ``trial`` steps decide).
``class_images`` are what the model itself draws for the class; ``data`` encodes photos and prompts
once. ``dreambooth`` is the loss and the loop over what ``train_state`` holds.

How a run goes on: at intervals ``callbacks`` draws samples, which ``best_checkpoint`` scores, and
saves a state (``checkpoint``) on the local disk, which ``checkpoint_manager`` copies to the Drive
in the background; ``saves`` knows which there are. When Colab takes the machine away, the next
session finds the run by its card, takes the newest state that is whole (``resume``), and trains on
from its step. All randomness is a function of (seed, step, position), and the learning rate of the
step, so the end is the same bit for bit as if nothing had happened. Where the Drive has no room for
states it goes on from weights in fp16 instead, and says so. Only when the weights are whole on the
Drive does run.json say that the run is finished; what filled the ``memory`` is let go then.
"""
