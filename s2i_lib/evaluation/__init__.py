"""How good is it? Pictures and hearing in numbers, with their uncertainty.

``dreambench`` draws the prompts by which the DreamBooth paper judges; ``encoders`` turn pictures
and texts into vectors; ``metrics`` are the formulas. ``evaluate`` puts them together for a run,
``speech`` for what is lost between mouth and picture, and ``report`` makes a page of it.
``model_selection`` is the rule that chooses a run's best step.
"""

from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.encoders import load_scorers
from s2i_lib.evaluation.evaluate import MEANING, add_hearing
from s2i_lib.evaluation.model_selection import Point, choose_best, is_past_peak, value
from s2i_lib.evaluation.report import draw_scores, figure_png, write_report
from s2i_lib.evaluation.speech import Clip, list_recordings, read_clips

# What notebooks take, in one line.
__all__ = [
    "MEANING", "Clip", "EvaluateOptions", "Point", "add_hearing", "choose_best", "draw_scores",
    "figure_png", "is_past_peak", "list_recordings", "load_scorers", "read_clips", "value",
    "write_report",
]  # fmt: skip
