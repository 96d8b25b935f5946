"""The tree drawn in hvcodec/errors.py is the tree of classes, attributes included."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from hvcodec import errors

LINE = re.compile(r"(?P<branches>[│├└─ ]*)(?P<name>\w+(?:Error))\b(?P<rest>.*)")
CLASSES = {name: value for name, value in vars(errors).items() if isinstance(value, type)}


def drawn() -> dict[str, tuple[str, set[str]]]:
    """Each class in the drawing, with its parent and the attributes that are named beside it."""
    tree: dict[str, tuple[str, set[str]]] = {}
    above: list[str] = ["Exception"]
    for line in str(errors.__doc__).splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            continue
        depth = len(match["branches"]) // 4
        del above[depth + 1 :]
        tree[match["name"]] = (above[-1], set(re.findall(r"\.(\w+)\b", match["rest"])))
        above.append(match["name"])
    return tree


def test_the_drawing_has_every_class() -> None:
    assert set(drawn()) == set(CLASSES)
    assert len(CLASSES) > 10


@pytest.mark.parametrize("name", CLASSES)
def test_the_drawing_has_the_parent_and_the_attributes(name: str) -> None:
    parent, attributes = drawn()[name]
    cls = CLASSES[name]
    assert cls.__bases__[0].__name__ == parent
    own = inspect.getfullargspec(cls.__init__).kwonlyargs if "__init__" in vars(cls) else []
    named = set(own)
    assert attributes == named
    error = cls("what to do", **dict.fromkeys(named, 7))
    assert str(error) == "what to do"
    assert {getattr(error, attribute) for attribute in named} <= {7}
    assert str(cls.__doc__).strip()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CLASSES)
def test_an_error_survives_the_way_to_another_process(name: str, protocol: int) -> None:
    error = CLASSES[name]("what to do", **dict.fromkeys(drawn()[name][1], 7))
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (twin.args, vars(twin)) == (error.args, vars(error))
