"""How good is it? Pictures and hearing in numbers, with their uncertainty.

``dreambench`` draws the prompts by which the DreamBooth paper judges, each from several seeds.
``encoders`` turn pictures and texts into vectors, and ``metrics`` turn those into scores: likeness
to the photos, fidelity to the prompt, what is left of the class, diversity, copies. Each score has
its bootstrap interval, since few prompts are drawn. ``evaluate`` puts that together for a run, and
what cannot be scored is missing with its reason.

``speech`` measures what is lost between mouth and picture: the same wish, spoken and typed, drawn
from the same noise. ``report`` makes a page of it all. ``model_selection`` scores while training
goes on, and is the rule that chooses a run's best checkpoint.
"""
