"""From a recording to a prompt: how a recording becomes words, and a name an identifier.

``audio`` makes 16 kHz samples of any file or array: ``tracks`` decodes the sound track that is
meant, and ``level`` says how loud the speech is. ``windows`` finds the speech in them and cuts it
at pauses into what Whisper takes at once. ``weights`` finds a Whisper for this machine, on the
Drive, in packages (``packaged``, for machines without a network) or on the hub; ``whisper`` has
two engines to run it. ``decoding`` makes words of the windows, tries bad ones again, and doubts
what stays bad; ``glossary`` helps with what is said in twenty other languages, ``missed_names``
with names that were heard as something else, ``vocabulary`` with words that a small picture model
does not know. ``transcribe`` ties it together, and ``transcript`` is what comes out, in English.

``name_matching`` then finds a subject's name however it was spelled (``words`` and ``sounds`` are
what it compares), and ``prompt`` puts the identifier in its place: "Wrecks on a beach" becomes "a
ohwx dog on a beach". Both are pure functions on text, as is ``near_names``, which asks "Did you
mean Bella?". ``taught_names`` hears a name said alone, and keeps what Whisper writes for it.
``alignment`` shows how Whisper listened.

``changes`` reads whether a sentence changes the last picture: politeness goes (``habits``), a frame
says what is changed (``frames``), a value what it is to be (``values``), and one part of the prompt
is exchanged (``scene``, ``phrases``). ``commands`` are what is said of no picture: "undo".
"""
