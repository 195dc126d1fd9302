"""``python -m fedmosaic`` is the ``fedmosaic`` command."""

from fedmosaic.cli import entry

if __name__ == "__main__":
    entry()
