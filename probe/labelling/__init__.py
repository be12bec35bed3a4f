"""From some labels to a table of all images: predictions with honest errors, and which of them to accept."""
