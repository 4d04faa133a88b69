"""Where everything that lasts is kept, and how it gets there although the disk may fail.

One folder holds photos, runs, weights and pictures: on Google Drive in Colab, else beside you
(``layout``). A Drive may be full, slow, or gone in the middle of a write, so work is done on the
local disk (``files``) and published in the background (``publisher``): written under a temporary
name, flushed, read back, compared by SHA-256, renamed (``publishing``). What was there before goes
only after that (``removal``); ``disk`` knows what there is room for. What Google acknowledges is
uploaded later, so an old state waits for that, too. A ``lease`` keeps two sessions from writing one
run; ``tensor_file`` writes its tensors without a second copy in memory. What is not on the Drive
comes from the ``hub``, pinned and checked; ``run_card`` finds a fine-tuned run and reads what it
says of itself.
"""
