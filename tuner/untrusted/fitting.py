"""Values of somebody else's JSON, read in a shape. Pure."""

from typing import TypeVar

from msgspec import ValidationError, convert

Shape = TypeVar("Shape")


def fitted(value: object, shape: type[Shape]) -> Shape:
    """As `msgspec.convert`. Half a surrogate pair, which JSON can spell, is a value that does not fit.

    msgspec looks names and words up as UTF-8, which has no surrogates.

    Raises:
        ValidationError: the value does not fit the shape.
    """
    try:
        return convert(value, shape)
    except UnicodeEncodeError as error:
        raise ValidationError(str(error)) from None
