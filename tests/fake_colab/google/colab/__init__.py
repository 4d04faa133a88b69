"""A stand-in for Google's own package, which exists only in Colab.

What it does is read from googlecolab/colabtools: names, signatures, errors and printed words.
$FAKE_COLAB_MOUNT says how the user answers: "allow", "refuse" or "hang";
$FAKE_COLAB_MYDRIVE is a folder that a mount brings into sight.
"""

from google.colab import drive, errors, output

__all__ = ["drive", "errors", "output"]
