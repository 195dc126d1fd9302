"""Show results: progress and tables in the terminal, experiment trackers, the web page."""
