"""From runs to leaderboards."""
