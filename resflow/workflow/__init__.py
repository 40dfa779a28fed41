"""What the command line and a notebook both call: plan a study, run it, train a backbone, look after a machine."""
