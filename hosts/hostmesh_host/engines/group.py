"""Several engines as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from hostmesh import Engine, EngineEvent, ModelInfo, Work
from hostmesh.errors import ConfigError, ModelNotReadyError


class EngineGroup:
    """An :class:`hostmesh.Engine` that hands each model's work to the engine that has the model.

    Raises:
        ConfigError: two engines have a model of one id.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        self._by_model: dict[str, Engine] = {}
        for engine in engines:
            for model in engine.models():
                if model.model_id in self._by_model:
                    raise ConfigError(
                        f"two engines serve {model.model_id!r}",
                        name="models",
                        source="argument",
                        remedy="give each model to one engine",
                    )
                self._by_model[model.model_id] = engine

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models of all engines."""
        return tuple(model for engine in self._engines for model in engine.models())

    async def ready(self) -> Mapping[str, bool]:
        """Ask every engine, one after the other. Cancellation: safe."""
        answer: dict[str, bool] = {}
        for engine in self._engines:
            answer.update(await engine.ready())
        return answer

    def generate(self, work: Work) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """Start the work where its model is."""
        return self._engine(work.model_id).generate(work)

    async def count_prompt_tokens(self, work: Work) -> int | None:
        """Count where the model is. Cancellation: safe."""
        return await self._engine(work.model_id).count_prompt_tokens(work)

    def _engine(self, model_id: str) -> Engine:
        try:
            return self._by_model[model_id]
        except KeyError:
            raise ModelNotReadyError(f"no engine here serves {model_id!r}") from None
