"""google.colab.errors and google.colab._message, as far as they are seen from outside."""


class Error(Exception):
    pass


class MessageError(Error):
    """The page answered with an error."""
