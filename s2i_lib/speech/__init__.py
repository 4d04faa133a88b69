"""From a recording to a prompt.

``audio`` makes 16 kHz samples of any recording; ``whisper`` has two engines behind one interface,
and ``transcribe`` says what was heard, in English, and how far to trust it. ``name_matching``
finds a subject's name however it was spelled, and ``prompt`` puts the identifier in its place:
"Rex on a beach" becomes "a ohwx dog on a beach". Both are pure functions on text. ``tiny_en`` is
a Whisper that comes in a package, for machines without a network.
"""
