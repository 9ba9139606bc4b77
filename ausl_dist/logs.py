"""What a process logs: its own words from INFO on, those of libraries from WARNING on.

At INFO, libraries tell of every client they make, and of where they found credentials.
"""

import logging

from ausl_dist.addresses import log_masked

OWN = ("ausl_dist", "launch", "tools", "__main__")


def start_logging(format: str = "%(asctime)s %(levelname)s %(message)s") -> None:
    """Log to standard error from now on, without secrets; for a process's `main`, once."""
    log_masked(format)
    logging.getLogger().setLevel(logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.INFO)
