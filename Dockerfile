# Unify in a container; docs/how-to/deploy.md says how to run it, docker-compose.yml runs it beside its databases.

FROM python:3.12-slim-bookworm AS build
# Without pip: the environment is copied, and what runs there installs nothing.
RUN python -m venv --without-pip /opt/venv
WORKDIR /app
COPY pyproject.toml constraints.txt README.md app.py compose.py logs.py settings.py ./
COPY migrations migrations
COPY repositories repositories
COPY tenancy tenancy
COPY utils utils
COPY web web
# Every dependency comes as a wheel, so nothing is compiled and no compiler is needed, here either. Editable: the code
# stays in /app, from where settings.py counts relative paths, such as data/admin.db.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --only-binary=:all: -c constraints.txt -e '.[all]'

FROM python:3.12-slim-bookworm
# Debian's ODBC driver for SQL Server, FreeTDS, registers itself; the driver manager is not among what it depends on.
# Microsoft's ODBC Driver 18 is preferred where it is installed and alone can do tls=verify, but is in Microsoft's
# own package repository, under its own licence: an image made FROM this one can add it.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends tdsodbc unixodbc \
    && rm -rf /var/lib/apt/lists/*
# The number is fixed, so that what is in a volume keeps its owner from one image to the next.
RUN groupadd --gid 10001 unify \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin unify \
    && install -d -o unify -g unify -m 700 /app/data
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY pyproject.toml README.md .env.example app.py compose.py gunicorn.conf.py logs.py settings.py ./
COPY migrations migrations
COPY repositories repositories
COPY tenancy tenancy
COPY utils utils
COPY web web
# Compiled now: the user that runs it cannot write here.
RUN python -m compileall -q .
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=5000
# The workers' figures are mapped files: were they in /tmp, a disk full of long bodies would end the workers.
ENV PROMETHEUS_MULTIPROC_DIR=/dev/shm
USER 10001:10001
VOLUME /app/data
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "utils.healthcheck"]
# exec: the server takes the shell's place as the first process, and with it the signals that stop a container.
CMD ["sh", "-c", "unify db create-config-table && exec unify serve"]
