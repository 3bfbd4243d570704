# The tool and its service, without vLLM: decisions, checks, exports, the store and `tuner service run`.
#
#   docker build --tag tuner .
#   docker run --rm --volume "$PWD/deploy:/deploy:ro" tuner check /deploy
#   docker run --rm --publish 8443:8443 --volume verdicts:/data tuner service run --help
#
# A probe needs the image that serves: install the tool there, or run `tuner env --script` in it.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY environments/tool.txt environments/
COPY cache cache
COPY rules rules
COPY tuner tuner
# The pins of the lock file hold for what the tool needs; what they list beyond that is not installed.
RUN sed -e 's/ *\\$//' -e '/^ *--hash/d' environments/tool.txt > constraints.txt \
 && python -m venv /opt/tuner \
 && /opt/tuner/bin/pip install --no-cache-dir --constraint constraints.txt '.[service,sign]'

FROM python:3.12-slim
COPY --from=build /opt/tuner /opt/tuner
RUN useradd --uid 65532 --create-home tuner && install --directory --owner tuner /data
USER 65532
ENV PATH=/opt/tuner/bin:$PATH PYTHONDONTWRITEBYTECODE=1 TUNER_STORE=/data/verdicts.sqlite
WORKDIR /data
ENTRYPOINT ["tuner"]
CMD ["--help"]
