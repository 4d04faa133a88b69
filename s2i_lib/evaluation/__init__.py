"""How good is it? Pictures and hearing in numbers, with their uncertainty.

``dreambench`` draws the prompts by which the DreamBooth paper judges, each from several seeds.
``metrics`` turn the vectors of ``models.encoders`` into scores: likeness to the photos, whole and
cut out, what leaks of their surroundings, fidelity to the prompt, what is left of the class,
diversity, copies. Each score has its bootstrap interval, since few prompts are drawn. ``evaluate``
puts that together for a model, ``runs`` for a run that lies on the Drive, and what cannot be scored
is missing with its reason.

``speech`` measures what is lost between mouth and picture: the same wish, spoken and typed, drawn
from the same noise. ``report`` makes a page of it all. ``model_selection`` scores while training
goes on, and is the rule that chooses a run's best checkpoint. ``look`` asks the scorer whether one
picture shows what was asked.
"""

from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.evaluate import MEANING
from s2i_lib.evaluation.model_selection import Point, choose_best, is_past_peak, value
from s2i_lib.evaluation.report import draw_scores, figure_png, write_report
from s2i_lib.evaluation.runs import add_hearing
from s2i_lib.evaluation.speech import Clip, list_recordings, read_clips
from s2i_lib.models.encoders import load_scorers

# What notebooks take, in one line.
__all__ = [
    "MEANING", "Clip", "EvaluateOptions", "Point", "add_hearing", "choose_best", "draw_scores",
    "figure_png", "is_past_peak", "list_recordings", "load_scorers", "read_clips", "value",
    "write_report",
]  # fmt: skip
