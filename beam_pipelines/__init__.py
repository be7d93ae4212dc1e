"""The data side: everything that runs on Apache Beam, and the commands that fetch, make and check data."""
