"""Which settings are hashed into the keys of results."""

from collections.abc import Mapping
from typing import Any

# The value with which a setting has no effect. With this value it is left out of the hash, so that a
# new setting changes no old key.
OFF = {
    "scale_shift": True,
    "attention_in": "all",
    "resample": "residual",
    "flip": False,
    "augment": 0.0,
    "calibrate": False,
    "calibrated": True,
    "averages": (),
    "ema": None,
    "logit_normal": None,
    "restarts": 0,
    "accumulate": 1,
    "precision": "float32",
    "start": "previous",
    "times": None,
    "gamma": 0.0,
    "shaping": 0.0,
    "huber": None,
    "adversarial": 0.0,
    "weights": None,
    "weights_names": {},
}


def stated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without those that are off."""
    return {key: value for key, value in settings.items() if key not in OFF or value != OFF[key]}
