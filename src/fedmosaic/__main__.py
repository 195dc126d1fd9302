"""Run the ``fedmosaic`` command as ``python -m fedmosaic``."""

from fedmosaic.cli import entry

if __name__ == "__main__":
    entry()
