"""Provide text tasks built from real reference data: the positions of cities, the kinds of words.

Two small packages hold the data (extra ``reference``); :mod:`.sources` lists what is read from them
and their licences. :mod:`.families` defines the questions, :mod:`.tasks` divides them into tasks.
"""

from fedmosaic.data.reference.tasks import TASKS, load_task, public_set

__all__ = ["TASKS", "load_task", "public_set"]
