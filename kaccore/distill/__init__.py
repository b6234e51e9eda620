"""Distillers: each a loss over a frozen teacher."""

from kaccore.distill.endpoint import EndpointDistiller

__all__ = ["EndpointDistiller"]
