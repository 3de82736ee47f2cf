"""All processes in memory: how many, how they come in, and what they share."""
