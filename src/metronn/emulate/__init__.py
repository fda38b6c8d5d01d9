"""What an integer graph answers, event by event: `numpy` op by op, `native` as compiled C++.

Imports `ir` alone. Firmware is compared with it, so nothing of planning or emission enters.
"""
