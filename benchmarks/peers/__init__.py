"""Run one federation with fedmosaic and with what a user would write otherwise, side by side."""
