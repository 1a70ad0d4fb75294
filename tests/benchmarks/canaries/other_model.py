"""Another model: the pretrained character model of the package ``textgenrnn`` 2.0.0 (MIT licence), run with numpy.

    python -m tests.benchmarks.canaries.other_model FOLDER_OF_THE_PACKAGE

A recurrent network of 465 characters, two LSTM layers of 128 and an attention average, trained on posts of a forum. It
is no chat model: it goes on with the prompt's text. Needs ``numpy`` and ``h5py``. One line a job, as :mod:`record`.

Source: textgenrnn/model.py and utils.py; the weights are stored in cuDNN's layout, which Keras turns as here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.canaries.jobs import RECORDINGS, TEST, RecordedJob, read_jobs

CONTEXT = 40
ANSWER_CHARACTERS = 80
"""Fewer than 24 tokens of SmolLM2 have, on average."""
_META = "<s>"


class CharacterModel:
    """The network with its weights."""

    def __init__(self, folder: Path) -> None:
        import h5py
        import numpy as np

        self._np = np
        self._vocabulary: dict[str, int] = json.loads((folder / "textgenrnn_vocab.json").read_text(encoding="utf-8"))
        self._characters = {index: character for character, index in self._vocabulary.items()}
        with h5py.File(folder / "textgenrnn_weights.hdf5") as file:
            self._embedding = file["embedding/embedding/embeddings:0"][:]
            self._layers = [self._layer(file[f"rnn_{n}/rnn_{n}"]) for n in (1, 2)]
            self._attention = file["attention/attention/attention_W:0"][:, 0]
            self._kernel = file["output/output/kernel:0"][:]
            self._bias = file["output/output/bias:0"][:]

    def _layer(self, group: Any) -> tuple[Any, Any, Any]:
        np = self._np
        gates = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(group["kernel:0"][:], 4)]
        recurrent = [gate.T for gate in np.hsplit(group["recurrent_kernel:0"][:], 4)]
        return np.hstack(gates), np.hstack(recurrent), np.sum(np.split(group["bias:0"][:], 2), axis=0)

    def probabilities(self, texts: Sequence[Sequence[str]]) -> Any:
        """Return for each text the next character's distribution after its last 40 characters."""
        np = self._np
        known = [[self._vocabulary.get(character, 0) for character in text[-CONTEXT:]] for text in texts]
        values = self._embedding[np.array([[0] * (CONTEXT - len(row)) + row for row in known])]
        parts = [values]
        for kernel, recurrent, bias in self._layers:
            values = self._run(values @ kernel + bias, recurrent)
            parts.append(values)
        joined = np.concatenate(parts, axis=2)
        weights = _softmax(np, joined @ self._attention)
        return _softmax(np, np.einsum("tc,tcf->tf", weights, joined) @ self._kernel + self._bias)

    def _run(self, inputs: Any, recurrent: Any) -> Any:
        np = self._np
        size = recurrent.shape[0]
        hidden = np.zeros((len(inputs), size))
        cell = np.zeros((len(inputs), size))
        outputs = np.zeros((*inputs.shape[:2], size))
        for step in range(inputs.shape[1]):
            gates = inputs[:, step] + hidden @ recurrent
            enter, forget, leave = (1 / (1 + np.exp(-gates[:, k * size : (k + 1) * size])) for k in (0, 1, 3))
            cell = forget * cell + enter * np.tanh(gates[:, 2 * size : 3 * size])
            hidden = leave * np.tanh(cell)
            outputs[:, step] = hidden
        return outputs

    def answers(self, jobs: Sequence[RecordedJob]) -> list[str]:
        """Return for each job the characters that follow its prompt; the end of a text is never drawn."""
        np = self._np
        sources = [np.random.Generator(np.random.PCG64(job.seed)) for job in jobs]
        texts = [[_META, *job.prompt] for job in jobs]
        for _ in range(ANSWER_CHARACTERS):
            chances = self.probabilities(texts)
            chances[:, [0, self._vocabulary[_META]]] = 0.0
            for row, job, source, text in zip(chances, jobs, sources, texts, strict=True):
                if job.temperature == 0.0:
                    index = int(np.argmax(row))
                else:
                    powered = row ** (1 / job.temperature)
                    index = int(source.choice(len(row), p=powered / powered.sum()))
                text.append(self._characters[index])
        return ["".join(text[-ANSWER_CHARACTERS:]) for text in texts]


def _softmax(np: Any, logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def main() -> None:
    """Record the test part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds textgenrnn_weights.hdf5 and textgenrnn_vocab.json")
    model = CharacterModel(parser.parse_args().folder)
    jobs = [job for job in read_jobs() if job.part == TEST]
    lines = [
        json.dumps({"id": job.job_id, "text": text}, ensure_ascii=False)
        for job, text in zip(jobs, model.answers(jobs), strict=True)
    ]
    (RECORDINGS / "other_model.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
