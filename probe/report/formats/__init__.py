"""Leaderboards as terminal text, CSV, LaTeX, Markdown, pictures and pages."""
