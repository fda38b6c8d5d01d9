"""metronn: trained networks to fixed-latency firmware for one or several FPGAs."""

__version__ = "0.1.0"
