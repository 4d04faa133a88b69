"""DreamBooth: from a dataset to weights, and on again after a disconnect.

``config`` holds every option and ``recipes`` what each model starts from. ``resources`` plans
what fits; ``class_images`` are what the model itself draws for the class; ``data`` encodes
everything once. ``dreambooth`` is the loss and the loop, ``train_state`` what changes in it. All
randomness is a function of (seed, step, position), so a run that was killed goes on from its
newest whole ``checkpoint`` and ends bit for bit as if it had not been. ``checkpoint_manager``
publishes what is saved, ``best_checkpoint`` scores samples and keeps the best step, ``callbacks``
do both at their intervals, and ``finetune`` ties it together.
"""
