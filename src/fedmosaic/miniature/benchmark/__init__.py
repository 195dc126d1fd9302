"""The miniature world's data: rendered scenes and the procedural benchmark of 40 + 7 tasks built from them."""
