"""Other weights for the same model: requantised, or with noise. Needs the packages ``numpy`` and ``gguf``.

Every variant starts from the shipped Q4_1 file: its quantised matrices are dequantised, changed, and quantised again.
Norms, the tokenizer and every other entry are copied as they are.

- ``q4_0``: the Q4_1 matrices as Q4_0; the embedding stays Q8_0, as it is in the shipped file.
- ``q8_0``: all matrices as Q8_0 and nothing else (a repack).
- ``noise_*``: to each matrix Gaussian noise is added, whose standard deviation is the given part of the matrix's own;
  then Q8_0. So each holds the repack's error, too, which is reported by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

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
_QUANTISED = {"Q4_1", "Q8_0"}


def write_variant(source: Path, target: Path, name: str) -> None:
    """Write the named variant of the source file.

    Cost: about 10 s and 1.5 GB of memory for 135 million weights.
    """
    import gguf
    import numpy as np

    kind, noise = CHANGES[name]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        inner = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write all variants that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    for name in CHANGES:
        target = arguments.folder / f"{name}.gguf"
        if not target.exists():
            part = target.with_suffix(".part")
            write_variant(arguments.source, part, name)
            part.rename(target)


if __name__ == "__main__":
    main()
