# The extension alone, as CloudNativePG (1.27 or later, PostgreSQL 18) mounts it beside a server: /lib and /share, nothing else.
#
#   docker build -t slm_pg-extension:18 -f packaging/docker/image_volume.Dockerfile .
#
# In the Cluster:  postgresql.extensions: [{name: slm_pg, image: {reference: slm_pg-extension:18}}]
# and postgresql.parameters: slm.model_directory on the volume of the data (its default) or on one of its own.
ARG BASE=postgres:18-trixie

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential libjansson-dev \
    libopenblas-serial-dev libpcre2-dev libutf8proc-dev libxxhash-dev postgresql-server-dev-18
COPY . /src
RUN make -C /src -j"$(nproc)" && make -C /src install DESTDIR=/out
# the libraries that the server's image may lack go beside ours
RUN mkdir -p /volume/lib /volume/share && cp -r /out/usr/lib/postgresql/18/lib/. /volume/lib/ \
    && cp -r /out/usr/share/postgresql/18/extension /volume/share/ \
    && for name in jansson pcre2-8 utf8proc xxhash; do cp -L /usr/lib/*/lib$name.so.[0-9] /volume/lib/; done

FROM scratch
COPY --from=build /volume/ /
