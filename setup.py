"""Packaging of cxr-engine; tool settings stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

BESIDE_TENSORFLOW = [
    "keras>=3.8",
    "scipy>=1.11",
    "matplotlib>=3.8",
    "Jinja2>=3.1",
    "rich>=13",
    "pydicom>=3",
    "Pillow>=10.1",
]
ENGINE = ["tensorflow>=2.18", *BESIDE_TENSORFLOW]
# The last release of tensorflow-io fits TensorFlow 2.16 and 2.17 alone.
TFIO = ["tensorflow==2.17.*", "tensorflow-io==0.37.1", *BESIDE_TENSORFLOW]
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.20", "prometheus-client>=0.20"]
GCS = ["google-cloud-storage>=3.2"]
GCP = ["apache-beam[gcp]>=2.76"]
BEAM = ["apache-beam>=2.76", "rich>=13", "urllib3>=2"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "moto[s3,server]>=5",
    "gcp-storage-emulator>=2024.8",
    "scikit-learn>=1.4",
    "jax>=0.5",
    "httpx>=0.27",
    "playwright>=1.49",
    "schemathesis>=4",
]
DEV = ["ruff==0.17.6", "mypy>=1.10", "pandas-stubs", "types-PyYAML", "types-protobuf", "build"]

setup(
    name="cxr-engine",
    version="0.1.0",
    description="Chest X-rays from PNGs to sharded records to trained and honestly judged models",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "."},
    packages=find_packages(include=["records*", "beam_pipelines*", "engine*"]),
    package_data={
        "beam_pipelines": ["*.csv"],
        "engine.report": ["*.yaml", "templates/*.j2"],
        "engine.serving": ["static/*"],
    },
    install_requires=[
        "numpy>=1.26",
        "pandas>=2.2",
        "protobuf>=4.25",
        "google-crc32c>=1.5",
        "boto3>=1.34",
        "kornia-rs>=0.1.11",
        "opencv-python-headless>=4.11",
        "PyYAML>=6",
        "xxhash>=3",
        "obstore>=0.11",
    ],
    extras_require={
        "engine": ENGINE,
        "tfio": TFIO,
        "beam": BEAM,
        "gcp": [*BEAM, *GCP],
        "gcs": GCS,
        "serve": [*ENGINE, *SERVE],
        "gpu": ["tensorflow[and-cuda]>=2.18", *ENGINE],
        "test": TEST,
        "fuzz": ["atheris>=3.0; python_version >= '3.11'"],
        "dev": [*ENGINE, *SERVE, *BEAM, *GCP, *GCS, *TEST, *DEV],
    },
    entry_points={"console_scripts": ["engine=engine.cli:console"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
