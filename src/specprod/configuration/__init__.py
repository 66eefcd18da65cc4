"""Configuration: defaults, files, environment and options, and where each value came from.

Only modules of the standard library are imported here: the command reads its configuration before anything else.
"""

from specprod.configuration.core import Configuration, Production, load_configuration
from specprod.configuration.keys import KEYS, known_names
from specprod.configuration.passwords import mask_password

__all__ = ["KEYS", "Configuration", "Production", "known_names", "load_configuration", "mask_password"]
