"""The impure half of the engine: it runs actions, keeps timers, writes journals, and lets go of waiting processes."""
