"""Loads all modules that a launcher, a supervisor and a rank need, to be forked from then on."""

import importlib
import os

MODULES = (
    "aiobotocore",
    "botocore.session",
    "deepspeed",
    "s3fs",
    "launch.__main__",
    "launch.local",
    "launch.supervise",
    "tools.kills.watched",
    "ausl_dist.train.loop",
    "ausl_dist.train.online",
)

os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is first imported
importlib.import_module("ausl_dist.model.backbones").import_timm()
for _module in MODULES:
    importlib.import_module(_module)
