"""The base models, and everything that is loaded into or written out of them.

``registry`` holds as data all in which the models differ; no branch elsewhere asks which it has.
A model is loaded from where it is found first (``loading``): this package, a folder, the Drive,
the hub. A run's weights or a stranger's file are put into it (``single_file``, ``lora``) and
written out for other programs (``export``, ``original_layout``). ``vision`` loads the networks
that look at pictures; ``devices`` says where things compute.
"""
