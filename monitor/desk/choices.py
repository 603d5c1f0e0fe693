"""The lists that a resolution is made from: causes, actions, who bears it, what was wrong with an alarm. Pure."""

import re
from functools import cache
from importlib.resources import files

import msgspec

LISTS = ("cause", "action", "borne_by", "false_alarm")
CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a list: its code stays for ever, its titles may change."""

    code: str
    title_en: str
    title_zh: str

    def __post_init__(self) -> None:
        if not CODE.fullmatch(self.code):
            raise ValueError(f"code {self.code!r}: allowed are a to z, 0 to 9 and _, at most 40, a letter first")
        if not (self.title_en.strip() and self.title_zh.strip()) or max(len(self.title_en), len(self.title_zh)) > 120:
            raise ValueError(f"{self.code}: a title of 1 to 120 characters is needed in both languages")

    def title(self, lang: str) -> str:
        return self.title_zh if lang == "zh" else self.title_en


@cache
def shipped_choices() -> dict[str, tuple[Choice, ...]]:
    """The lists as they ship with the program."""
    text = files("monitor.desk").joinpath("choices.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, tuple[Choice, ...]])
