"""oncoarena: rival claims about where the cancer signal lives, trained and judged on equal terms."""

__version__ = "0.1.0"
