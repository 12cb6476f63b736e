"""`make soak`: a real cluster under random trouble for minutes, and what it costs the longer it runs."""
