"""Machine profiles from TOML files: those that ship with the program, and the company's own beside its data."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from monitor.devices import Profile


class BadProfile(ValueError):
    """A profile file that cannot be read; the message names the file and what is wrong in it."""


def load_profiles(own: Path | None = None) -> dict[str, Profile]:
    """Every profile by name. One in the folder `own` takes the place of a shipped one of the same name."""
    profiles = _load(files("monitor").joinpath("profiles").iterdir())
    if own is not None and own.is_dir():
        profiles |= _load(own.iterdir())
    return profiles


def _load(entries: Iterable[Traversable]) -> dict[str, Profile]:
    found = [_read(entry) for entry in entries if entry.name.endswith(".toml")]
    return {profile.name: profile for profile in sorted(found, key=lambda profile: profile.name)}


def parse_profile(where: str, text: str | bytes) -> Profile:
    """A profile from TOML; raises BadProfile, which says `where` it stands."""
    try:
        return msgspec.toml.decode(text, type=Profile)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadProfile(f"{where}: {error}") from error
    except RecursionError:
        raise BadProfile(f"{where}: it is nested deeper than any profile") from None


def _read(entry: Traversable) -> Profile:
    profile = parse_profile(entry.name, entry.read_bytes())
    if profile.name != entry.name.removesuffix(".toml"):
        raise BadProfile(f"{entry.name}: name is {profile.name!r}; a profile has the name of its file")
    return profile
