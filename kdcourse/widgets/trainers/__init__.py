"""Widgets that train while their sliders move.

Chapters 02 and 07. Each trainer has three files: ``live.py``, ``cohort.py`` and ``schedule.py`` hold the controls, the
``_race`` beside each what is trained, the ``_picture`` what is drawn. All use ``clock``, ``race`` and ``error_chart``.
"""

from .clock import Mark
from .cohort import CohortTrainer
from .live import LiveTrainer
from .schedule import ScheduleEditor
from .schedule_race import ScheduleRun

__all__ = ["CohortTrainer", "LiveTrainer", "Mark", "ScheduleEditor", "ScheduleRun"]
