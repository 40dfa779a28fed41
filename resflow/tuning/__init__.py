"""The tuning phase of a study: searches, their candidates, who won; keras-tuner's oracles under Ray Tune."""
