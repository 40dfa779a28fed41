"""Figures of a run: functions from frames to a matplotlib Figure. They read and save nothing.

A study with a numeric factor (depth) is drawn along it, a series for each combination of the other factors; a study
without one is drawn arm by arm. Every completed seed is a point or a thin line. `width` is in inches; below five the
panels stand in one column.
"""
