"""google.colab.userdata: the vault of secrets. Whoever asks it opens a dialog in Colab's page."""

import os
from pathlib import Path


class SecretNotFoundError(Exception):
    pass


class NotebookAccessError(Exception):
    pass


def get(key):
    if asked := os.environ.get("FAKE_COLAB_ASKED"):  # a test looks there whether anybody did
        with Path(asked).open("a") as file:
            file.write(f"{key}\n")
    raise SecretNotFoundError(f"Secret {key} does not exist.")
