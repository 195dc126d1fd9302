"""Text tasks built from real reference data: where cities lie, what words are.

Two small packages hold the data (extra ``reference``; :mod:`.sources` says what is read and its licences). :mod:`.families` holds the
questions, :mod:`.tasks` cuts them into tasks.
"""

from fedmosaic.data.reference.tasks import TASKS, load_task, public_set

__all__ = ["TASKS", "load_task", "public_set"]
