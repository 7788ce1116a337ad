"""What the operations refuse, as far as dtypes and sizes are known; it costs nothing in graphs."""

import tensorflow as tf


def check_floating(**tensors) -> None:
    """Makes sure that tensors are of floating dtypes: integers would overflow or be cut off.

    Args:
        tensors: by the names of the arguments.

    Raises:
        ValueError: if one is not.
    """
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating:
            raise ValueError(
                f"Expected a floating dtype of `{name}`: cast it. Received: {tensor.dtype.name}"
            )


def check_shape(name: str, value, shape) -> None:
    """Makes sure that a value can have a shape.

    Args:
        name: what it is, for the message.
        value: a tensor or array.
        shape: expected, None for any length.

    Raises:
        ValueError: if it cannot.
    """
    shape, received = tf.TensorShape(shape), tf.TensorShape(value.shape)
    if not received.is_compatible_with(shape):
        raise ValueError(f"Expected {name} of shape {shape}. Received: {received}")


def check_same_shape(target, source) -> None:
    """Makes sure that the shapes of two feature maps can be equal.

    Raises:
        ValueError: if they cannot.
    """
    if not target.shape.is_compatible_with(source.shape):
        raise ValueError(
            "`target` and `source` must have the same shape. "
            f"Received: {target.shape} and {source.shape}"
        )
