"""What people look at: the data set at a glance, contact sheets, plots, and one page on a run."""
