"""The base models, and everything that is loaded into them or written out of them.

``registry`` holds as data all in which the models differ; no branch elsewhere asks which it has.
``loading`` finds a model's weights in this order: this package, a folder, the Drive, the hub's
mirrors; it compares their SHA-256 with what was noted when they arrived. A run's weights go on top,
or a LoRA or checkpoint from elsewhere (``single_file``, ``lora``). For other programs a run is
written as a diffusers folder, a LoRA or one file (``export``, ``original_layout``). ``vision``
finds and loads the networks that look at pictures, ``encoders`` those that measure them with the
embeddings of pictures and texts; ``schedulers`` makes the samplers, and
``devices`` says where all of them compute.
"""
