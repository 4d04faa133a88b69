"""From a prompt to pictures, each with the record from which it can be drawn again.

``sampling`` is the mathematics: noise, guidance, schedulers, decoding. ``draw`` makes a batch of
pictures safely, whatever memory or half precision do; ``records`` say how; ``advice`` says what
the model does not know, and ``presence`` whether the subject came out. ``attention`` shows where
each word looks, ``safety`` is the classroom mode, and ``gallery`` keeps pictures and makes pages.
"""
