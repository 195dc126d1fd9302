"""Run the parts of a federation with other programs than this one."""
