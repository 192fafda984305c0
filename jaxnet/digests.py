"""SHA-256 digests of what is stored: they tell every flipped bit."""

import hashlib
import json
from typing import Any

import numpy as np


def of_array(array: np.ndarray) -> str:
    """The digest of an array's bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def of_record(record: dict[str, Any]) -> str:
    """The digest of what JSON can hold, whatever the order of its names."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
