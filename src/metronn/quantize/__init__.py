"""From a real-valued network and calibration events to an exact integer graph."""
