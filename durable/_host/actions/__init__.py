"""Actions: where each runs, how it is told to stop, and what its end means."""
