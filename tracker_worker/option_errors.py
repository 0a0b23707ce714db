# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the options of a configuration, each as a line that names the option and its file.

For the programs, and for the adapter for nova-compute.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from oslo_config import cfg

Known = Mapping[str, Collection[str]]
"""Names of options by the name of their group."""

_Sections = dict[str, dict[str, Any]]

_WRONG_VALUE = re.compile(
    r"Value for option (?P<name>\S+) from LocationInfo\(location=.*?, detail='(?P<where>.*?)'\) "
    r"is not valid: (?P<reason>.*)",
    re.S,
)
"""The text of oslo.config's error, which has no group."""
_PLAIN = (
    (re.compile(r"invalid literal for int\(\) with base \d+: "), "a whole number is needed, not "),
    (re.compile(r"could not convert string to float: "), "a number is needed, not "),
)


class _Unknown(NamedTuple):
    """A section of a file that is no known group, or (with a name) an option that its group does not have."""

    file: Path
    section: str
    name: str | None
    suggestions: list[str]

    def __str__(self) -> str:
        what = f"the option {self.name} of [{self.section}]" if self.name else f"the group [{self.section}]"
        hint = (
            f"did you mean {self.suggestions[0]}?" if self.suggestions else "it is misspelt, or was removed"
        )
        return f"{self.file}: {what} is unknown and has no effect; {hint}"


def unknown_options(conf: cfg.ConfigOpts, known: Known, *, ignored: tuple[str, ...] = ()) -> list[str]:
    """Return a line for each group and each option in the configuration files that is not known.

    Groups whose names begin with one of `ignored` have none. No line contains a value. Raises cfg.Error for a
    file that cannot be read.
    """
    return sorted(str(each) for each in _unknown(conf, known) if not each.section.startswith(ignored))


def unknown_options_of_shared_files(conf: cfg.ConfigOpts, known: Known) -> list[str]:
    """Return the same lines for files that other programs read too.

    A group counts only if it resembles a known one.
    """
    return sorted(str(each) for each in _unknown(conf, known) if each.name or each.suggestions)


def _unknown(conf: cfg.ConfigOpts, known: Known) -> Iterator[_Unknown]:
    for file, sections in _files(conf):
        for section, options in sections.items():
            # oslo.config accepts names of groups in capitals, but not names of options.
            names = known.get(section) or known.get(section.lower())
            if names is None:
                yield _Unknown(file, section, None, _similar(section, known))
                continue
            for name in options.keys() - names:
                others = [f"[{group}] {name}" for group in known if name in known[group]]
                yield _Unknown(file, section, name, _similar(name, names) or others)


def _similar(name: str, names: Iterable[str]) -> list[str]:
    return get_close_matches(name, names, n=1, cutoff=0.8)


def _files(conf: cfg.ConfigOpts) -> Iterator[tuple[Path, _Sections]]:
    paths = [Path(name).expanduser().absolute() for name in conf.config_file]
    for directory in conf.config_dir:
        paths += sorted(Path(directory).expanduser().absolute().glob("*.conf"))
    for path in paths:
        sections: _Sections = {}
        cfg.ConfigParser(str(path), sections).parse()
        yield path, sections


def wrong_values(conf: cfg.ConfigOpts, group: str | None = None) -> list[str]:
    """Return a line for each registered option with an invalid value: of one group, by default of all.

    The line names the group, which oslo.config's error does not, and the value, which it may lack.
    """
    return list(_wrong(conf, "DEFAULT", conf) if group is None else _wrong(conf, group, conf[group]))


def _wrong(conf: cfg.ConfigOpts, group: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name in values:
        try:
            value = values[name]
        except cfg.ConfigSourceValueError as error:
            yield f"[{group}] {_reason(conf, group, str(error))}"
        except (cfg.Error, ValueError):  # The code that uses the option reports it, without its value.
            continue
        else:
            if isinstance(value, cfg.ConfigOpts.GroupAttr):
                yield from _wrong(conf, name, value)


def _reason(conf: cfg.ConfigOpts, group: str, text: str) -> str:
    match = _WRONG_VALUE.fullmatch(text)
    if match is None:
        return text
    name, where, reason = match.group("name", "where", "reason")
    for pattern, words in _PLAIN:
        reason = pattern.sub(words, reason)
    if reason.startswith("Should be "):
        values = [
            str(options[name][-1])
            for file, sections in _files(conf)
            for section, options in sections.items()
            if str(file) == where and section.lower() == group.lower() and name in options
        ]
        reason = " ".join([*values[-1:], reason[0].lower() + reason[1:]])
    return f"{name} from {where} is not valid: {reason}"
