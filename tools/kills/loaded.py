"""Loads all modules that a launcher, a supervisor and a rank need, to be forked from then on."""

import importlib
import os

from launch.child import die_with_parent

MODULES = (
    "aiobotocore",
    "botocore.session",
    "deepspeed",
    # its first import compiles a function, for which all of torch's compiler is loaded
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "s3fs",
    "launch.__main__",
    "launch.local",
    "launch.supervise",
    "tools.kills.watched",
    "ausl_dist.train.loop",
    "ausl_dist.train.online",
)

die_with_parent()  # the trial's own death ends what is forked from here, too
os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is first imported
importlib.import_module("ausl_dist.model.backbones").import_timm()
for _module in MODULES:
    importlib.import_module(_module)
