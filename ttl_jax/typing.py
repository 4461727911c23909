"""Array types with shapes: jaxtyping's where it is installed, permissive stand-ins where it is not.

The GPU benchmark image carries only jax, flax, optax and numpy, and shapes in annotations must not
be the reason that models or the step fail to import there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax import Array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped, UInt8
    except ImportError:

        class _Anything:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = Key = PyTree = Shaped = UInt8 = _Anything

Variables = dict[str, Any]  # {"params": tree of arrays, "batch_stats": tree of arrays}
__all__ = ["Array", "Bool", "Float", "Int", "Key", "PyTree", "Shaped", "UInt8", "Variables"]
