"""From a camera or a folder to square crops that a model can learn from.

A ``subject`` has a card: name, class noun, identifier, and of a person ``consent``. What happens to
a photo: ``importing`` keeps it once, without place, phone and time; ``inspection`` leads it through
the next four. ``reading`` makes upright sRGB of it, whatever made it, by what its file says of its
colours (``colour``); ``crop`` puts a square around the subject, which it finds by the face or by
what stands out (``mask``); in a class ``photo_checker`` looks at it; ``quality`` says what is wrong
with it. Then the photos are compared (``diversity``): of two shots of one moment the better stays.
``dataset`` does all that, and writes the crops, a ``contact_sheet`` of what was decided and why,
and a ``manifest`` with hashes, so that a changed file is noticed and a crop by hand lasts.
"""
