"""The profiles as tables: one row a model, and one row a (model, sensor), for detectors to read by index."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.devices import Profile, Sensor

_UNKNOWN = Profile(name="", title="", title_zh="", sensors=())


class Models:
    """Every known profile under a number, every sensor of every profile under a number.

    Number 0 is the model of machines whose profile is not known: it has no sensors, but its machines are still watched
    for silence, starts, fault codes and clocks.
    """

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.profiles = [_UNKNOWN, *profiles.values()]
        self.number = {name: number for number, name in enumerate(profiles, start=1)}
        self.sensors = [sensor for profile in self.profiles for sensor in profile.sensors]
        self.names = [tuple(sensor.name for sensor in profile.sensors) for profile in self.profiles]
        self.width = np.array([len(names) for names in self.names], dtype=np.int64)
        self.first_sensor = np.concatenate([[0], np.cumsum(self.width)[:-1]]).astype(np.int64)
        self._column = [{name: column for column, name in enumerate(names)} for names in self.names]

    def of_model(self, fact: Callable[[Profile], Any], dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
        """One fact of every model, by the model's number."""
        return np.array([fact(profile) for profile in self.profiles], dtype=dtype)

    def of_sensor(self, fact: Callable[[Profile, Sensor], Any], dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
        """One fact of every sensor, by the sensor's number."""
        facts = [fact(profile, sensor) for profile in self.profiles for sensor in profile.sensors]
        return np.array(facts, dtype=dtype).reshape(len(facts), *np.shape(facts[0] if facts else 0))

    def columns(self, used: npt.NDArray[np.int64], metrics: list[str]) -> npt.NDArray[np.int64]:
        """(models, metrics): where a metric stands among a model's sensors, -1 where it does not.

        Only the models in `used` are looked up: a batch seldom holds many.
        """
        table = np.full((len(self.profiles), max(1, len(metrics))), -1, dtype=np.int64)
        for model in used.tolist():
            column = self._column[model]
            table[model, : len(metrics)] = [column.get(metric, -1) for metric in metrics]
        return table
