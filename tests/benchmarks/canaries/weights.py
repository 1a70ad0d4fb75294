"""Other weights for the same model: requantised, with noise, or a layer short. Needs ``numpy`` and ``gguf``.

Every variant starts from the shipped Q4_1 file: its quantised matrices are dequantised, changed, and quantised again.
Norms, the tokenizer and every other entry are copied as they are.

- ``q4_0``: the Q4_1 matrices as Q4_0; the embedding stays Q8_0, as it is in the shipped file.
- ``q8_0``: all matrices as Q8_0 and nothing else (a repack).
- ``noise_*``: to each matrix Gaussian noise is added, whose standard deviation is the given part of the matrix's own;
  then Q8_0. So each holds the repack's error, too, which is reported by itself.
- ``fewer_layers``: another model, as near as one can be: 29 of the 30 layers, as they are, without the one after the
  middle. Pruning layers is how smaller models are made of larger ones (Men et al., "ShortGPT", arXiv 2403.03853).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

NOISE_SEED = 20241026
"""Of numpy's PCG64; one stream over all matrices in the order of the file."""
CHANGES: dict[str, tuple[str, float]] = {
    "q4_0": ("Q4_0", 0.0),
    "q8_0": ("Q8_0", 0.0),
    "noise_0_5": ("Q8_0", 0.005),
    "noise_2": ("Q8_0", 0.02),
    "noise_10": ("Q8_0", 0.10),
}
"""Name -> the type that Q4_1 matrices get, and the noise relative to each matrix's standard deviation."""
FEWER_LAYERS = "fewer_layers"
LEFT_OUT_LAYER = 15
_QUANTISED = {"Q4_1", "Q8_0"}


def write_variant(source: Path, target: Path, name: str) -> None:
    """Write the named variant of the source file.

    Cost: about 10 s and 1.5 GB of memory for 135 million weights.
    """
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        value = field.contents()
        if name == FEWER_LAYERS and field.name.endswith(".block_count"):
            value -= 1
        inner = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    if name == FEWER_LAYERS:
        _add_other_layers(writer, reader)
    else:
        _add_changed(writer, reader, *CHANGES[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_changed(writer: Any, reader: Any, kind: str, noise: float) -> None:
    """Add the tensors, the quantised ones with noise and in another type."""
    import gguf
    import numpy as np

    random = np.random.Generator(np.random.PCG64(NOISE_SEED))
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in _QUANTISED:
            writer.add_tensor(tensor.name, np.array(tensor.data))
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if noise:
            values = values + random.normal(0.0, noise * float(values.std()), values.shape).astype(np.float32)
        wanted = gguf.GGMLQuantizationType[kind if tensor.tensor_type.name == "Q4_1" else "Q8_0"]
        packed = gguf.quants.quantize(values, wanted)
        writer.add_tensor(tensor.name, packed, raw_dtype=wanted)


def _add_other_layers(writer: Any, reader: Any) -> None:
    """Add the tensors as they are, but those of one layer; the layers after it move up."""
    import numpy as np

    for tensor in reader.tensors:
        name = tensor.name
        if layer := re.fullmatch(r"blk\.(\d+)\.(.+)", name):
            number = int(layer[1])
            if number == LEFT_OUT_LAYER:
                continue
            name = f"blk.{number - (number > LEFT_OUT_LAYER)}.{layer[2]}"
        kind = tensor.tensor_type if tensor.tensor_type.name in _QUANTISED else None
        writer.add_tensor(name, np.array(tensor.data), raw_dtype=kind)


def main() -> None:
    """Write all variants that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    for name in (*CHANGES, FEWER_LAYERS):
        target = arguments.folder / f"{name}.gguf"
        if not target.exists():
            part = target.with_suffix(".part")
            write_variant(arguments.source, part, name)
            part.rename(target)


if __name__ == "__main__":
    main()
