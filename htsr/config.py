"""Config files: YAML whose sections are the keyword arguments of functions, so the signatures are the schema.

Order of precedence: default of the signature < file < override (``--set train.steps=100``). Nothing here imports
TensorFlow or any other part of the package: who checks a section hands in the function that will receive it.
"""

import inspect
import os
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from htsr.annotations import Mismatch, convert, describe, number_hint, text_hint
from htsr.checks import did_you_mean
from htsr.errors import InputError
from htsr.files import new_file

SECTIONS = ("model", "data", "train", "eval")
TEXTS = ("datadir",)  # keys whose overrides are texts as they stand: a folder may be called 2024, or clips #2
MAX_BYTES = 1 << 16


def read_config(
    path: str | Path, overrides: Iterable[str] = (), sections: Sequence[str] = SECTIONS
) -> dict[str, dict[str, Any]]:
    """Read a config file and apply overrides on top of it.

    Args:
        path: YAML file with the sections ``model``, ``data``, ``train``, ``eval``, each a mapping (or empty).
        overrides: strings such as ``"train.steps=100"``; the part after ``=`` is parsed as YAML, but for a path, which
            is taken as it stands (``null``, unquoted, is none).
        sections: other ones, of a file that is not a run's config.

    Returns:
        One dict per section, in the order of ``sections``; values unchecked (see ``check_section``).

    Raises:
        InputError: the file is missing, too large, not plain YAML, repeats a key or has other sections.
    """
    path = Path(path)
    content = read_plain(path, f"the sections {', '.join(sections)}")
    _refuse_unknown(str(path), content, sections, what="section")
    config = {}
    for section in sections:
        if section not in content:
            raise InputError(f"config file {path} has no section '{section}'; expected {', '.join(sections)}")
        config[section] = {} if content[section] is None else content[section]
        if not isinstance(config[section], dict):
            raise InputError(
                f"{path}: section '{section}' must be 'key: value' lines, received {_show(content[section])}"
            )
    for section, values in read_overrides(overrides, sections).items():
        config[section] |= values
    return config


def read_overrides(overrides: Iterable[str], sections: Sequence[str] = SECTIONS) -> dict[str, dict[str, Any]]:
    """What overrides such as ``"train.steps=100"`` say, by section."""
    found: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for override in overrides:
        section, key, value = _parse_override(override, sections)
        found[section][key] = value
    return found


def read_plain(path: str | Path, expected: str = "'key: value' lines") -> dict[str, Any]:
    """Read a file of plain YAML whose outermost level is ``key: value`` lines, of whatever keys.

    Args:
        path: the file.
        expected: what it should hold, for messages.

    Raises:
        InputError: the file is missing, too large, not plain YAML, repeats a key or is of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"config file {path} does not exist; give the path of a .yml file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"config file {path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    content = _parse(path.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise InputError(f"config file {path}: expected {expected}, received {_show(content)}")
    return content


def check_section(
    section: str,
    values: Mapping[str, Any],
    function: Callable[..., Any] | tuple[Callable[..., Any], ...],
    reserved: Collection[str] = (),
) -> dict[str, Any]:
    """Check one section against the signature of the function that receives it and fill in the defaults.

    Understood annotations: ``bool``, ``int``, ``float``, ``str``, ``Any``, ``Literal``, unions (with ``None``), and
    ``list``, ``tuple``, ``Sequence`` and ``dict`` of these. An integer does for a float; a boolean is not a number.

    Args:
        section: its name, for messages.
        values: the section, without the ``name`` that chooses a model or dataset.
        function: a function, a class whose constructor receives the section, or several that share it.
        reserved: parameters the caller supplies itself; they can be neither set nor missing.

    Returns:
        A value for every other parameter, in the order of the signature, sequences as the annotated type.

    Raises:
        InputError: unknown key, wrong type, or a parameter without default and value.
    """
    parameters = {
        name: parameter
        for receiver in (function if isinstance(function, tuple) else (function,))
        for name, parameter in inspect.signature(receiver, eval_str=True).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in reserved
    }
    for key in values:
        if key in reserved:
            raise InputError(f"{section}.{key} is set by the program; remove it from section '{section}'")
    _refuse_unknown(section, values, parameters, what="key")
    resolved = {}
    for name, parameter in parameters.items():
        if name in values:
            resolved[name] = _checked(f"{section}.{name}", values[name], parameter.annotation)
        elif parameter.default is not parameter.empty:
            resolved[name] = parameter.default
        else:
            expected = describe(parameter.annotation)
            raise InputError(f"{section}.{name} is missing; expected {expected}: add it to section '{section}'")
    return resolved


def check_named(
    section: str, values: Mapping[str, Any], table: Mapping[str, Callable[..., Any]], reserved: Collection[str] = ()
) -> dict[str, Any]:
    """``check_section`` of a section whose ``name`` chooses, from a table, the function that receives the rest."""
    values = dict(values)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{section}.name must be one of {', '.join(table)}, received {name!r}")
    return {"name": name, **check_section(section, values, table[name], reserved)}


def save_config(config: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Write a config so that the file is either the old or the new one, whenever the machine stops."""
    with new_file(path) as file:
        yaml.safe_dump({name: dict(values) for name, values in config.items()}, file, sort_keys=False)


def differences(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]], ignore: Collection[str] = ()
) -> list[str]:
    """List what two configs disagree on, one ``"train.steps: 100 before, 200 now"`` a key.

    Args:
        old: the config of the run folder.
        new: the config of this start.
        ignore: sections (``"eval"``) or dotted keys (``"train.steps"``) that may differ.
    """
    found = []
    for section in dict.fromkeys([*old, *new]):
        before, now = old.get(section, {}), new.get(section, {})
        for key in dict.fromkeys([*before, *now]):
            unchanged = key in before and key in now and _plain(before[key]) == _plain(now[key])
            if not unchanged and not {section, f"{section}.{key}"} & set(ignore):
                values = [_show(values[key]) if key in values else "absent" for values in (before, now)]
                found.append(f"{section}.{key}: {values[0]} before, {values[1]} now")
    return found


def find_config(name: str | Path) -> Path:
    """Return the path of a config: the file of that name, else the one that comes with htsr.

    Args:
        name: a path, or the name of a config that comes with htsr, such as ``"cms_lstm/mmnist"``; it may begin with
            ``configs/`` and end in ``.yml``.

    Raises:
        InputError: there is no such file and no such config.
    """
    path, folder = Path(name), shipped("configs")
    if path.is_file():
        return path
    known = sorted(found.relative_to(folder).with_suffix("").as_posix() for found in folder.rglob("*.yml"))
    wanted = path.as_posix().removeprefix("configs/").removesuffix(".yml")
    if wanted not in known:
        raise InputError(
            f"config file {name} does not exist, nor does htsr come with a config of that name; "
            f"{did_you_mean(wanted, known, 'give a path or one of')}"
        )
    return folder / f"{wanted}.yml"


def shipped(name: str) -> Path:
    """Return the folder ``configs`` or ``pretrained``: in an installed package, beside that of a checkout."""
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


def run_folder(logdir: str | Path, config_path: str | Path, name: str | None = None) -> Path:
    """Return the folder of a run: below ``logdir``, the path the config has below ``configs/``, without suffix.

    Example:
        >>> run_folder("logs", "configs/cwvae/mmnist.yml").as_posix()
        'logs/cwvae/mmnist'
        >>> run_folder("logs", "configs/mmnist.yml", name="first try").as_posix()
        'logs/first try'
    """
    if name is not None:
        if not name.strip() or Path(name).is_absolute() or ".." in Path(name).parts or Path(name) == Path("."):
            raise InputError(f"run name must be a relative path below the log folder, received {name!r}")
        return Path(logdir) / name
    path = Path(os.path.abspath(config_path)).with_suffix("")
    folders = path.parts[:-1]
    below = folders[len(folders) - folders[::-1].index("configs") :] if "configs" in folders else ()
    return Path(logdir, *below, path.name)


class _Loader(yaml.SafeLoader):
    """Plain YAML: a repeated key is an error, and so is an alias (aliases can make a small file huge).

    A number is decimal: what YAML 1.1 takes for octal (0010), base 60 (1:30), a date and the like stays a text, which
    no number's place accepts.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not allowed", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {_show(key)} is not a word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}
_NOT_PLAIN = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag not in _NOT_PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str | bytes, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line}: {error.problem}; expected 'key: value' lines of plain YAML") from None
    except (yaml.YAMLError, UnicodeError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{source} is not readable as YAML: {reason}; expected 'key: value' lines in UTF-8") from None


def _parse_override(override: str, sections: Sequence[str]) -> tuple[str, str, Any]:
    target, equals, value = override.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and key):
        raise InputError(f"override {override!r} not understood; expected section.key=value, e.g. train.steps=100")
    _refuse_unknown(f"override {override!r}", [section], sections, what="section")
    text, source = value.strip(), f"override {override!r}"
    if key in TEXTS and text not in ("", "null") and text[:1] not in ("'", '"'):
        return section, key, text
    parsed = _parse(text, source)
    if isinstance(parsed, str) and " #" in text and text[:1] not in ("'", '"'):
        raise InputError(f"{source}: YAML takes what follows # for a comment; write {section}.{key}='\"{text}\"'")
    return section, key, parsed


def _refuse_unknown(where: str, keys: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    for key in keys:
        if key not in known:
            raise InputError(f"{where}: unknown {what} '{key}'; {did_you_mean(key, sorted(known), 'known:')}")


def _checked(key: str, value: Any, annotation: Any) -> Any:
    """Return the value as the annotated type, or raise the error that names the key."""
    try:
        return convert(value, annotation)
    except Mismatch:
        hint = number_hint(value, annotation) or text_hint(value, annotation)
        raise InputError(f"{key}: expected {describe(annotation)}, received {_show(value)}{hint}") from None


def _plain(value: Any) -> Any:
    """Return the value as YAML would give it back (tuples become lists)."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _show(value: Any) -> str:
    """Return a value and its type for a message, cut to one short line."""
    if value is None:
        return "null"
    return f"{reprlib.repr(value)} ({type(value).__name__})"
