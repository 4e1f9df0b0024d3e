# bayes-pfl serve on a CPU; docs/guides/deployment.md says how it is built and run.
FROM python:3.11-slim

WORKDIR /src
COPY constraints.txt ./
# By itself: the largest layer, and the one that changes least.
RUN pip install --no-cache-dir --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md ./
COPY bayes_pfl bayes_pfl
COPY checkpoints checkpoints
COPY datasets datasets
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve,export,medical]'

RUN useradd --create-home --uid 10001 serve
USER serve
WORKDIR /home/serve

EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Other computers reach it, so that it wants a token: the variable BAYES_PFL_TOKEN.
ENTRYPOINT ["bayes-pfl", "serve", "--host", "0.0.0.0"]
CMD ["/detector"]
