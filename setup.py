"""The compiled kernel, beside what pyproject.toml says; without a compiler it is left out."""

import sys

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "explgraph._kernel",
            ["explgraph/kernel.c"],
            depends=["explgraph/kernel.h"],
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=fast"],
            py_limited_api=True,  # one build serves every Python from 3.10 on
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
