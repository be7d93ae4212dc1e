"""`engine serve`: a run's page and API, for people and programs that read X-rays with it."""
