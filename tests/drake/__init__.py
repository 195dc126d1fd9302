"""Test DRAKE and HFLB as they are published: scenario files, folders and downloads."""
