"""From a camera or a folder to square crops that a model can learn from.

A ``subject`` has a card: name, class noun, identifier, and of a person ``consent``. Each photo is
read whatever made it (``reading``), kept once and without private data (``importing``), looked at
(``saliency``, ``crop``, ``quality``, ``diversity``), and shown on a ``contact_sheet`` with what
was decided and why. The ``dataset`` is the crops with a ``manifest`` of hashes, so that a changed
file is noticed.
"""
