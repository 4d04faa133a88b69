"""From a prompt to pictures, each with the record from which it can be drawn again.

``sampling`` is the mathematics: noise, guidance, schedulers, decoding. ``draw`` makes a batch of
pictures safely, whatever memory or half precision do; ``panorama`` lets them go around;
``records`` say how they were drawn; ``advice`` says what the model does not know, and ``presence``
whether the subject came out. ``attention`` shows where each word looks, ``safety`` is the classroom
mode, and ``gallery`` keeps pictures, of which ``pages`` are made. After a change ``keeping`` takes
what it does not speak of from the last picture. Each carries a mark that a machine drew it
(``marks``), signed where the user can (``credentials``); ``made_by`` reads what any file says of
that, and ``told`` is for who cannot see.
"""
