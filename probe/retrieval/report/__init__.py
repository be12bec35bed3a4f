"""From retrieval runs to tables, worst queries and pages."""
