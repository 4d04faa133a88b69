"""Speak a sentence, see the picture.

The modules follow the data: drive, capture, dataset, models, prior, dreambooth, checkpoint, speech,
prompt, generate, gallery, evaluate. Importing the package loads none of them, nor torch.
"""

__version__ = "0.1.0"
