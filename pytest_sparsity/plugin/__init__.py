"""All that touches pytest: hooks, fixtures, options, the reporter, and what fixtures return."""
