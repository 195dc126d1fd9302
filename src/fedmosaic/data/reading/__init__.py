"""Read data files of the usual kinds, and make the examples of their items."""

from fedmosaic.data.reading.files import FILE_TYPES, RECORD_TYPES, Scan, read_examples

__all__ = ["FILE_TYPES", "RECORD_TYPES", "Scan", "read_examples"]
