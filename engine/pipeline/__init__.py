"""From data to report in one command: the other commands in their order, each in a process of its own."""
