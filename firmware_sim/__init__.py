"""Simulated rental machines: the other end of the wire. Knows the wire contract, and nothing of the service.

    simulate(profile, device_id, seed, start_at, duration_s, report_s, failures, *, duty, climate_c, load, key_at,
             spread)
        A machine in virtual time: an iterator of (epoch ms, last part of the topic, payload bytes). For benches, tests.
        simulate.course(box, end_at) is the same before any encoding: blocks of readings, events, statuses.
    Fleet(cards, *, home, seed, report_s, scenario, duty)
        Machines in real time over MQTT: start(), stop(), inject(device_id, failure, …), heal(…), turn_key(…).
    Injection(failure, from_at, to_at, size, ramp_s, sensor)
        One failure, how bad it gets and how fast; FAILURES is the list of their names.
    Truth
        What was really wrong, one JSON line each, for measuring detectors.

device.py is the machine (pure), models.py its three models, failures.py what can go wrong (and what belongs to the
life of a healthy machine), sensors.py what its sensors make of the truth, wire.py the box that speaks the wire
contract, simulate.py lives it in virtual time, link.py is one MQTT connection, fleet.py many of them, demo.py the
demonstration's story.
"""

from firmware_sim.failures import FAILURES, Injection, Truth
from firmware_sim.fleet import Fleet
from firmware_sim.models import MODELS
from firmware_sim.simulate import simulate

__all__ = ["FAILURES", "MODELS", "Fleet", "Injection", "Truth", "simulate"]
