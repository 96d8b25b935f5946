"""The models that are installed, found by name or by id: reads the heads of their files, needs no torch.

A model is a safetensors file; its head is JSON and names the id and the structure of the model. Models are
looked for inside the package, then in the folders that the environment variable HVCODEC_MODELS lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .container import MAX_GROUPS, MODEL_ID_BYTES
from .errors import ModelError
from .files import write_whole

if TYPE_CHECKING:
    from .rate import Profile

FORMAT = "hvcodec-model-1"
SUFFIX = ".safetensors"
PROFILES_SUFFIX = ".profiles.json"
PACKAGED = Path(__file__).resolve().parent / "weights"

SEARCH_PATH_VARIABLE = "HVCODEC_MODELS"
"""Names folders of further models, separated as in PATH."""

DEFAULT_VARIABLE = "HVCODEC_MODEL"
"""Names the model, or the path of its weights, that `default` stands for."""

_MAX_HEAD_BYTES = 1 << 24
_COARSEST = 64  # stride; and no stage has as many layers


@dataclass(frozen=True)
class Entry:
    """A model that is installed, as the head of its file describes it."""

    name: str
    path: Path
    id: bytes
    strides: tuple[int, ...]  # of each layer, coarse to fine
    n_groups: int


def installed() -> list[Entry]:
    """Every model that can be found by name or id, the packaged ones first; files that are none are passed over."""
    return list(_entries())


def passed_over() -> dict[Path, str]:
    """What lies where models are looked for and is none, and folders that are not there, each with the reason."""
    return {path: str(found) for path, found in _survey() if isinstance(found, ModelError)}


def find(model: str | Path) -> Path:
    """The file of a model given by name or by the path of its weights; ModelError lists what is installed."""
    asked_by = ""
    if str(model) == "default" and os.environ.get(DEFAULT_VARIABLE):
        model, asked_by = os.environ[DEFAULT_VARIABLE], f" ({DEFAULT_VARIABLE} names it)"
    path = Path(model)
    if path.suffix == SUFFIX:
        if path.is_file():
            return path
        raise ModelError(f"there is no model file {path}{asked_by}", needed=str(path))
    for entry in _entries():
        if entry.name == str(model):
            return entry.path
    names = ", ".join(entry.name for entry in installed()) or "none"
    message = f"there is no model named {model}{asked_by}; installed: {names}{_but_passed_over()}"
    raise ModelError(message, needed=str(model), found=names)


def find_for(profile: str | None) -> Path:
    """The file of the model that a rate profile belongs to: the default model if it has it, otherwise another.

    The default model too if no profile is named, one that no model has, or if the user chose what is the default.
    """
    default = find("default")
    if profile is None or os.environ.get(DEFAULT_VARIABLE) or profile in profile_names(read_entry(default)):
        return default
    for entry in _entries():
        with suppress(ModelError):  # damaged profiles: whoever asks for that model is told
            if profile in profile_names(entry):
                return entry.path
    return default


def profile_names(entry: Entry) -> list[str]:
    """The rate profiles of a model."""
    return list(load_profiles(entry.path, entry.n_groups))


def is_of_one_level(entry: Entry) -> bool:
    """Whether a model was trained for one level alone: at others it codes, but not well."""
    from .profiles import TRAINED_PROFILE

    return TRAINED_PROFILE in profile_names(entry)


def other_profiles(known: Collection[str]) -> dict[str, list[str]]:
    """The rate profiles of installed models that are not among those known, by the name of the model."""
    found = {}
    for entry in _entries():
        with suppress(ModelError):  # whoever asks for that model is told
            found[entry.name] = [name for name in profile_names(entry) if name not in known]
    return {model: names for model, names in found.items() if names}


def entry_by_id(model_id: bytes) -> Entry:
    """The installed model that a compressed picture names; ModelError says which one is needed."""
    for entry in _entries():
        if entry.id == model_id:
            return entry
    found = ", ".join(f"{entry.id.hex()} ({entry.name})" for entry in installed()) or "none"
    raise ModelError(
        f"this file needs model {model_id.hex()}; installed: {found}{_but_passed_over()}. Name the file of its "
        f"weights, put that into a folder listed in {SEARCH_PATH_VARIABLE}, or update hvcodec.",
        needed=model_id.hex(),
        found=found,
    )


def find_by_id(model_id: bytes) -> Path:
    """The file of the model that a compressed picture names; ModelError says which one is needed."""
    return entry_by_id(model_id).path


def read_entry(path: Path) -> Entry:
    """What a model file says of itself; ModelError if it is damaged or no model of hvcodec."""
    metadata = read_metadata(path)
    try:
        model_id, stages = bytes.fromhex(metadata["id"]), json.loads(metadata["config"])["stages"]
        numbers = [number for stage in stages for number in (stage["stride"], stage["layers"])]
        are_small = all(type(number) is int and 1 <= number <= _COARSEST for number in numbers)
        if len(model_id) != MODEL_ID_BYTES or len(stages) > MAX_GROUPS or not are_small:
            raise ValueError("no model has such numbers")  # those of a foreign file could ask for any amount of memory
        strides = tuple(stage["stride"] for stage in stages for _ in range(stage["layers"]))
        return Entry(path.stem, path, model_id, strides, len(stages))
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ModelError(f"the head of {path.name} is damaged: install the model again") from err


def load_profiles(path: Path, n_groups: int) -> dict[str, Profile]:
    """Rate profiles of a model by name: `equal`, which always exists, and those beside its weights."""
    from .profiles import uniform  # here, because whoever only looks for a model needs no profiles

    profiles = [uniform(n_groups), *fitting_profiles(profiles_file(path), n_groups)]
    return {profile.name: profile for profile in profiles}


def profiles_file(path: Path) -> Path:
    """The file, beside the weights of a model, that holds its rate profiles."""
    return path.with_suffix(PROFILES_SUFFIX)


def read_profiles(stored: Path) -> list[Profile]:
    """The rate profiles in a file, none if there is no such file; ModelError if it is damaged."""
    from .profiles import Profile

    if not stored.is_file():
        return []
    try:
        return [Profile.from_dict(item) for item in json.loads(stored.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
        raise ModelError(f"{stored.name} is damaged ({err}): install the model again") from err


def fitting_profiles(stored: Path, n_groups: int) -> list[Profile]:
    """The rate profiles in a file; ModelError too if one is for a model with another number of stride groups."""
    profiles = read_profiles(stored)
    for profile in profiles:
        if profile.n_groups != n_groups:
            raise ModelError(
                f"{stored.name} belongs to another model: its profile {profile.name!r} is for {profile.n_groups} "
                f"stride groups, not for {n_groups}. Install the model again, or move that file away."
            )
    return profiles


def store_profile(stored: Path, profile: Profile) -> None:
    """Put a rate profile into a file, in place of one of its name; the others stay. The file is never half."""
    by_name = {known.name: known for known in read_profiles(stored)} | {profile.name: profile}
    _write_profiles(stored, by_name.values())


def drop_profile(stored: Path, name: str) -> None:
    """Take a rate profile out of a file, if it is there."""
    profiles = read_profiles(stored)
    left = [profile for profile in profiles if profile.name != name]
    if len(left) < len(profiles):
        _write_profiles(stored, left)


def _write_profiles(stored: Path, profiles: Iterable[Profile]) -> None:
    lines = (json.dumps(_rounded(profile.to_dict())) for profile in profiles)
    write_whole(stored, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def _rounded(data: Any) -> Any:
    """Numbers to six digits after the point, anywhere in plain data: nobody measures better."""
    if isinstance(data, float):
        return round(data, 6)
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(item) for item in data] if isinstance(data, (list, tuple)) else data


def _entries() -> Iterator[Entry]:
    # One at a time: the packaged models come first, and whoever finds one there need not read the others.
    return (found for _, found in _survey() if isinstance(found, Entry))


def _survey() -> Iterator[tuple[Path, Entry | ModelError]]:
    """What every file is that could be a model."""
    for path in _candidates():
        try:
            yield path, read_entry(path)
        except ModelError as err:  # beside models lie checkpoints, halves of downloads, ...: not our affair
            yield path, err
    for folder in _search_path():
        if not folder.is_dir():
            yield folder, ModelError(f"{SEARCH_PATH_VARIABLE} lists {folder}, which is no folder")


def _search_path() -> list[Path]:
    return list(map(Path, filter(None, os.environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep))))


def _candidates() -> Iterator[Path]:
    folders = [PACKAGED, *_search_path()]
    for folder in folders:
        yield from sorted(folder.glob(f"*{SUFFIX}"))
    chosen = Path(os.environ.get(DEFAULT_VARIABLE, ""))
    is_found = chosen.resolve().parent in [folder.resolve() for folder in folders]
    if chosen.suffix == SUFFIX and chosen.is_file() and not is_found:
        yield chosen


def _but_passed_over() -> str:
    """For the sentence about a model that was not found: it may be a file that could not be used."""
    reasons = "; ".join(passed_over().values())
    return f" (passed over: {reasons})" if reasons else ""


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata in a safetensors file: eight bytes of size, then so many bytes of JSON."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(size)) if size <= _MAX_HEAD_BYTES else {}
    except (OSError, ValueError, RecursionError) as err:
        raise ModelError(f"{path.name} cannot be read as a model: {err}") from err
    metadata = head.get("__metadata__") if isinstance(head, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ModelError(f"{path.name} is not an hvcodec model of a format that this version knows")
    return metadata
