"""All that touches pytest: hooks, fixtures, options, reporters, and what fixtures return."""
