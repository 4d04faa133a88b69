"""How good is it? Pictures and hearing in numbers, with their uncertainty.

``dreambench`` draws the prompts by which the DreamBooth paper judges; ``encoders`` turn pictures
and texts into vectors; ``metrics`` are the formulas. ``evaluate`` puts them together for a run,
``speech`` for what is lost between mouth and picture, and ``report`` makes a page of it.
``model_selection`` is the rule that chooses a run's best step.
"""
