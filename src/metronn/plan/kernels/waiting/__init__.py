"""Elements that wait: delays, gathers, windows and reorderings as delay lines, and the pulses that drive them."""
