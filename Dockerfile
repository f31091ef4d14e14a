# The main job, as somebody without rights, on synthetic sound or on recordings of yours:
#   docker build --tag cry_lightning .
#   mkdir -p -m 777 runs
#   docker run --rm --volume "$PWD/runs:/home/cry/runs" cry_lightning
#   docker run --rm --volume "$PWD/runs:/home/cry/runs" --volume /path/to/recordings:/data:ro cry_lightning DATA=/data
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 cry

WORKDIR /home/cry
COPY --chown=cry pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=cry configs configs
COPY --chown=cry cry_lightning cry_lightning

USER cry
RUN mkdir runs cache && make install

ENV WANDB_MODE=offline
ENTRYPOINT ["make", "pretrain", "finetune", "evaluate"]
