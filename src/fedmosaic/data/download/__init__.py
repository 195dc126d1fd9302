"""Download DRAKE and HFLB from the Hugging Face Hub, one archive a data set."""

from fedmosaic.data.download.data_sets import DataSetState, download, state_of, survey

__all__ = ["DataSetState", "download", "state_of", "survey"]
