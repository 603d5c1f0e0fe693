"""The three machine models of the demonstration fleet: their numbers, and what their engines drive.

A new model is one drive function, one show function and one `Model` in `MODELS`; its profile for the service is a
file of its own (monitor/profiles), as it would be for a bought machine.
"""

from dataclasses import replace
from random import Random

from firmware_sim.device import Machine, Model, relax
from firmware_sim.failures import Ailments


def _engine_sensors(machine: Machine) -> dict[str, float]:
    return {
        "coolant_temp_c": machine.coolant_c,
        "oil_pressure_bar": machine.oil_bar,
        "engine_speed_rpm": machine.rpm,
        "battery_voltage_v": machine.battery_v,
        "fuel_level_pct": machine.fuel_pct,
        "vibration_mm_s": machine.vibration_mm_s,
        "engine_hours_h": machine.hours,
    }


ENGINE_NOISE = {
    "coolant_temp_c": 0.25,
    "oil_pressure_bar": 0.04,
    "engine_speed_rpm": 3.0,
    "battery_voltage_v": 0.03,
    "fuel_level_pct": 0.15,
    "vibration_mm_s": 0.06,
}
J1939 = {
    "coolant_temp_c": 1.0,
    "oil_pressure_bar": 0.04,
    "engine_speed_rpm": 1.0,
    "battery_voltage_v": 0.05,
    "fuel_level_pct": 0.4,
    "load_pct": 1.0,
}
"""The steps of the SAE J1939 parameters, where a controller only passes its engine's on."""


def _generator_drive(machine: Machine, dt_s: float, hurt: Ailments) -> None:
    """The windings warm up with the current; a clogged filter keeps their cooling air out."""
    warmth = 1.0 + 2.5 * hurt.filter_clogged
    heat_c = (8.0 + 70.0 * machine.load) * warmth * machine.warmth if machine.rpm > 300 else 0.0
    machine.flow = 1.0 - hurt.output_lost
    machine.delivery_c = relax(machine.delivery_c, machine.ambient_c + heat_c, dt_s, 420.0)


def _generator_shows(machine: Machine) -> dict[str, float]:
    excited = machine.rpm > 700
    frequency_hz = machine.rpm / 30
    return _engine_sensors(machine) | {
        "load_pct": 100 * machine.load,
        "output_voltage_v": 400 * min(machine.rpm / 1500, 1.05) * (1.005 - 0.01 * machine.load) * machine.flow
        if excited
        else 0.0,
        "output_frequency_hz": frequency_hz if excited else 0.0,
        "winding_temp_c": machine.delivery_c,
    }


def _compressor_drive(machine: Machine, dt_s: float, hurt: Ailments) -> None:
    """Screw and separator: more air taken, less pressure; a clogged separator stands against the flow."""
    turning = machine.rpm > 600
    machine.flow = relax(machine.flow, machine.load if turning else 0.0, dt_s, 3.0)
    pressure_bar = (7.6 - 1.2 * machine.load - 0.8 * hurt.filter_clogged) * (1 - hurt.output_lost) if turning else 0.0
    machine.delivery_bar = relax(machine.delivery_bar, pressure_bar, dt_s, 8.0 if turning else 25.0)
    across_bar = (0.1 + 0.3 * machine.flow) * (1 + 4 * hurt.filter_clogged) if turning else 0.0
    machine.separator_bar = relax(machine.separator_bar, across_bar, dt_s, 4.0)
    target_c = 68.0 + 0.5 * (machine.ambient_c - 20) + 30 * machine.load * machine.warmth + 15 * hurt.filter_clogged
    # The screw's oil gives its heat to the same radiator as the engine does.
    target_c += 0.6 * max(0.0, machine.coolant_c - 92)
    machine.delivery_c = relax(machine.delivery_c, target_c if turning else machine.ambient_c, dt_s, 180.0)


def _compressor_shows(machine: Machine) -> dict[str, float]:
    return _engine_sensors(machine) | {
        "discharge_pressure_bar": machine.delivery_bar,
        "discharge_temp_c": machine.delivery_c,
        "separator_drop_bar": machine.separator_bar,
    }


def _pump_drive(machine: Machine, dt_s: float, hurt: Ailments) -> None:
    """Affinity laws: flow goes with the speed, head with its square; a clogged strainer starves the suction."""
    turning = machine.rpm / 1600 if machine.rpm > 400 else 0.0
    flow_m3_h = 150 * turning * (1 - 0.85 * hurt.filter_clogged) * (1 - hurt.output_lost)
    machine.flow = relax(machine.flow, flow_m3_h, dt_s, 5.0)
    drawn = (machine.flow / 150) ** 2
    suction_bar = -0.05 - 0.28 * drawn - 0.85 * hurt.filter_clogged * turning if turning else 0.0
    machine.suction_bar = relax(machine.suction_bar, suction_bar, dt_s, 3.0)
    head_bar = 2.2 * turning**2 * (1 - 0.5 * hurt.filter_clogged) * (1 - hurt.output_lost)
    machine.delivery_bar = relax(machine.delivery_bar, head_bar, dt_s, 3.0)
    rubbing_c = (18 + 24 * machine.load) * machine.warmth + 70 * hurt.bearing_wear if turning else 0.0
    machine.delivery_c = relax(machine.delivery_c, machine.ambient_c + rubbing_c, dt_s, 400.0)


def _pump_shows(machine: Machine) -> dict[str, float]:
    return _engine_sensors(machine) | {
        "suction_pressure_bar": machine.suction_bar,
        "discharge_pressure_bar": machine.delivery_bar,
        "flow_m3_h": machine.flow,
        "bearing_temp_c": machine.delivery_c,
    }


GENERATOR = Model(
    profile="diesel_generator",
    title="Diesel generator 60 kVA",
    firmware="gc-2.4.1",
    idle_rpm=1500,
    span_rpm=0,
    heat_kw=45,
    oil_bar=4.0,
    vibration_mm_s=2.6,
    fuel_pct_per_h=5.0,
    drive=_generator_drive,
    show=_generator_shows,
    noise=ENGINE_NOISE | {"load_pct": 0.6, "output_voltage_v": 0.8, "output_frequency_hz": 0.04, "winding_temp_c": 0.3},
    resolution=J1939 | {"output_voltage_v": 0.1, "winding_temp_c": 1.0},
)

COMPRESSOR = Model(
    profile="air_compressor",
    title="Portable screw compressor 10 m3/min",
    firmware="xc-1.9.0",
    idle_rpm=1300,
    span_rpm=1000,
    heat_kw=60,
    oil_bar=4.2,
    vibration_mm_s=3.0,
    fuel_pct_per_h=6.0,
    drive=_compressor_drive,
    show=_compressor_shows,
    noise=ENGINE_NOISE | {"discharge_pressure_bar": 0.05, "discharge_temp_c": 0.4, "separator_drop_bar": 0.01},
)

PUMP = Model(
    profile="water_pump",
    title="Diesel dewatering pump 150 m3/h",
    firmware="wp-3.0.2",
    idle_rpm=1200,
    span_rpm=800,
    heat_kw=30,
    oil_bar=3.8,
    vibration_mm_s=2.4,
    fuel_pct_per_h=4.5,
    drive=_pump_drive,
    show=_pump_shows,
    noise=ENGINE_NOISE
    | {"suction_pressure_bar": 0.01, "discharge_pressure_bar": 0.03, "flow_m3_h": 1.2, "bearing_temp_c": 0.3},
)


def individual(model: Model, rng: Random, spread: float) -> Model:
    """One machine of a model: its numbers lie some per cent beside the drawing's. `spread` 0: none, 1: as made."""

    def off(share: float) -> float:
        return 1 + spread * rng.gauss(0.0, share)

    return replace(
        model,
        idle_rpm=model.idle_rpm * off(0.002),
        heat_kw=model.heat_kw * off(0.03),
        oil_bar=model.oil_bar * off(0.04),
        vibration_mm_s=model.vibration_mm_s * off(0.1),
        fuel_pct_per_h=model.fuel_pct_per_h * off(0.08),
        thermostat_c=model.thermostat_c + spread * rng.gauss(0.0, 1.2),
        radiator=model.radiator * off(0.04),
        alternator_v=model.alternator_v + spread * rng.gauss(0.0, 0.06),
        battery_ohm=model.battery_ohm * off(0.06),
    )


MODELS = {model.profile: model for model in (GENERATOR, COMPRESSOR, PUMP)}
