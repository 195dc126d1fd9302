"""Check the data of a scenario, a file or a task, for the models that it is meant for."""

from fedmosaic.data_check.check import check_data
from fedmosaic.data_check.plan import plan_checks

__all__ = ["check_data", "plan_checks"]
