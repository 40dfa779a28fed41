"""The work itself, which the command line and a notebook both call: plan a study, run it, look after a machine."""
