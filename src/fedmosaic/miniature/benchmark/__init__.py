"""Build the miniature benchmark: 40 + 7 tasks about rendered pictures, and a public set."""
