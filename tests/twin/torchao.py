"""torchao as Colab's image has it, for the places where others look at it.

Facts, of the wheel torchao-0.10.0-cp39-abi3-manylinux_2_28_x86_64.whl on PyPI: the names below and
what is in its dist-info. Colab's freeze lists say 0.10.0 (tests/data). peft 0.19 and later raise
ImportError for less than 0.16.0, and else import ``torchao.utils.TorchAOBaseTensor``
(``peft.import_utils.is_torchao_available``, ``peft.tuners.lora.torchao.dispatch_torchao``).
diffusers imports ``torchao.quantization.quantize_`` where torchao is installed, whatever its
version (``diffusers.quantizers.torchao``).
"""

from __future__ import annotations

from pathlib import Path

MODULES = {
    "__init__.py": "from torchao.quantization import quantize_\n",
    "utils.py": "import torch\n\n\nclass TorchAOBaseTensor(torch.Tensor):\n    pass\n",
    "dtypes.py": (
        "from torchao.utils import TorchAOBaseTensor\n\n\n"
        "class AffineQuantizedTensor(TorchAOBaseTensor):\n    pass\n"
    ),
    "quantization.py": (
        "from torchao.utils import TorchAOBaseTensor\n\n\n"
        "class LinearActivationQuantizedTensor(TorchAOBaseTensor):\n    pass\n\n\n"
        "def quantize_(model, config, filter_fn=None, device=None):\n"
        "    raise RuntimeError('nothing of ours is quantized')\n"
    ),
}


def write_torchao(folder: Path, version: str = "0.10.0") -> Path:
    """Write module and dist-info as pip leaves them in ``folder``, to be put on Python's path."""
    info = f"torchao-{version}.dist-info"
    files = {f"torchao/{name}": text for name, text in MODULES.items()} | {
        f"{info}/METADATA": (
            f"Metadata-Version: 2.2\nName: torchao\nVersion: {version}\n"
            "Summary: Package for applying ao techniques to GPU models\n"
            "Home-page: https://github.com/pytorch/ao\n"
        ),
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: setuptools (75.8.0)\nRoot-Is-Purelib: false\n"
            "Tag: cp39-abi3-manylinux_2_24_x86_64\nTag: cp39-abi3-manylinux_2_28_x86_64\n"
        ),
        f"{info}/top_level.txt": "benchmarks\ntorchao\n",
        f"{info}/INSTALLER": "pip\n",
    }
    record = [f"{name},,\n" for name in files]
    for name, text in (files | {f"{info}/RECORD": "".join(record)}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
