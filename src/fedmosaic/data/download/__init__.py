"""Download DRAKE and HFLB from the Hugging Face Hub, one archive a data set."""

from fedmosaic.data.download.data_sets import DataSetState, download, list_data_sets, state_of

__all__ = ["DataSetState", "download", "list_data_sets", "state_of"]
