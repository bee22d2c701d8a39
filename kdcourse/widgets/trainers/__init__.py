"""Widgets that train while their sliders move.

Chapters 02, 07 and 10. Three have three files: ``live.py``, ``cohort.py`` and ``schedule.py`` hold the controls, the
``_race`` beside each what is trained, the ``_picture`` what is drawn. They use ``clock``, ``race`` and ``error_chart``.
``heat_map.py`` holds all of its own, and needs the clock only.
"""

from .clock import Mark
from .cohort import CohortTrainer
from .heat_map import HeatMap
from .live import LiveTrainer
from .schedule import ScheduleEditor
from .schedule_race import ScheduleRun

__all__ = ["CohortTrainer", "HeatMap", "LiveTrainer", "Mark", "ScheduleEditor", "ScheduleRun"]
