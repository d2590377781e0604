"""The compiled kernel, beside what pyproject.toml says; without a compiler it is left out."""

import sys
import sysconfig

from setuptools import Extension, setup

kernel = Extension(
    "explgraph.statistics._kernel",
    ["explgraph/statistics/kernel.c"],
    depends=["explgraph/statistics/kernel.h"],
    extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-g0", "-ffp-contract=fast"],
    py_limited_api=True,  # one build serves every Python from 3.10 on
    optional=True,
)
# free-threaded Python has no such interface: there torch does the work
stable = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[kernel] if stable else [],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable else {},
)
