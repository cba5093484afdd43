"""Channels: what of a model must be removed together, and the model without it."""

from toolchain.channels.choice import channel_norms, weakest
from toolchain.channels.groups import ChannelGroup, Channels, Slices, channel_groups, find_channels
from toolchain.channels.shrink import remove_channels
from toolchain.channels.trace import Trace, trace

__all__ = [
    "ChannelGroup",
    "Channels",
    "Slices",
    "Trace",
    "channel_groups",
    "channel_norms",
    "find_channels",
    "remove_channels",
    "trace",
    "weakest",
]
