"""What the server of forked.py imports before it forks: all that a rank is about to import."""

import importlib
import os

MODULES = (
    "deepspeed",
    # its first import compiles a function, for which all of torch's compiler is loaded
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "s3fs",
    "ausl_dist.train.loop",
    "ausl_dist.train.run",
)

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is first imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _module in MODULES:
    importlib.import_module(_module)
importlib.import_module("ausl_dist.model.backbones").import_timm()
