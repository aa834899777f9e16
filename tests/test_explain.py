"""What pydantic finds wrong is told in our words."""

import pydantic
import pytest

from stages.explain import mistakes


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    minimum: float = pydantic.Field(strict=True)


class Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    inner: Inner
    sizes: list[pydantic.PositiveInt] = []

    @pydantic.field_validator("sizes")
    @classmethod
    def _few(cls, sizes):
        if len(sizes) > 2:
            raise ValueError("should be two at most")
        return sizes


SAID = {
    "missing": ({"inner": {}}, "`inner.minimum` is missing"),
    "misspelt": (
        {"inner": {"minimum": 1.0, "minimun": 1}},
        "`inner.minimun` is not understood here: perhaps `minimum` is meant",
    ),
    "unknown": ({"inner": {"minimum": 1.0}, "x": 1}, "`x` is not understood here: remove it"),
    "type": ({"inner": {"minimum": "1"}}, "`inner.minimum` should be a number, but is '1'"),
    "range": (
        {"inner": {"minimum": 1.0}, "sizes": [1, 0]},
        "`sizes.1` should be greater than 0, but is 0",
    ),
    "ours": ({"inner": {"minimum": 1.0}, "sizes": [1, 2, 3]}, "`sizes` should be two at most"),
    "whole": ([], "should be an object in braces, but is []"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_mistake_is_named_with_its_place_what_was_expected_and_what_was_seen(what):
    content, says = SAID[what]
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate(content)
    assert [str(mistake) for mistake in mistakes(caught.value, Outer)] == [says]


def test_all_mistakes_are_told():
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate({"x": 1})
    assert len(mistakes(caught.value, Outer)) == 2
