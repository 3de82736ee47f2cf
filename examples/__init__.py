"""Programs to run and to copy from, each by one command: ``python -m examples.onboarding`` and so on."""
