"""The one way into a store: what is written together, when it is committed, and who hears of it."""
