"""What pyproject.toml cannot say: configs/ and pretrained/, here beside the package, are installed inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["htsr*"]), "htsr.configs", "htsr.pretrained"],
    package_dir={"htsr.configs": "configs", "htsr.pretrained": "pretrained"},
)
