"""The parts of a report, one file each: numbers of a run directory in, blocks of a document out."""
