#!/usr/bin/env bash
# Builds the Debian packages of what is committed, in folders of Debian's releases, and tries each in another folder that has nothing but
# the base system: README's three commands, first answer (debian/tests/first-answer), purge.  lintian must have nothing to say.
#
# usage: package.sh [release | docker ...]        (make package; bookworm, trixie and docker unless said otherwise)
# docker: the steps of the Dockerfiles in folders of trixie, whose server stands for the one of the image they begin with.
# The packages lie in build/package/RELEASE, the logs beside them; the last line is "package: N passed, N failed".
# Folders as in scripts/releases.sh; a release that cannot be had is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=releases.sh
. scripts/releases.sh
passed=0
failed=0
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" slm_pg.control)

# check WHAT COMMAND ...: one test; what its command printed is shown when it fails
check() {
    local what=$1 begin=$SECONDS
    shift
    if "$@" >"$out/check.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok - $release: $what ($((SECONDS - begin)) s)"
    else
        failed=$((failed + 1))
        echo "not ok - $release: $what"
        tail -n 40 "$out/check.log"
        return 1
    fi
}

committed() {
    if git rev-parse --git-dir >/dev/null 2>&1; then git archive HEAD | tar -xf - -C "$1"; else cp -a . "$1"; fi
}

# clean_copy NAME: the base system alone, new each time, in a folder of its own
clean_copy() {
    [ -e "$matrix/$release-base/.ready" ] || {
        rm -rf "$matrix/$release-base"
        debootstrap --variant=minbase "$release" "$matrix/$release-base" && touch "$matrix/$release-base/.ready"
    } || return
    rm -rf "${matrix:?}/$1" && cp -a "$matrix/$release-base" "$matrix/$1" || return
    cp /etc/resolv.conf /etc/hosts "$matrix/$1/etc/"
    inside "$1" apt-get -qq update
}

# A system with what debian/control says that building needs, and nothing else of ours.
build_machine() {
    local tree=$matrix/$builder/build/slm-pg-$version
    clean_copy "$builder" || return
    mkdir -p "$tree" && committed "$tree" || return
    tar -C "$tree/.." --exclude=debian -czf "$tree/../slm-pg_$version.orig.tar.gz" "slm-pg-$version" || return
    inside "$builder" env DEBIAN_FRONTEND=noninteractive sh -ec "
        apt-get -qq -y --no-install-recommends install build-essential dpkg-dev fakeroot lintian
        apt-get -qq -y --no-install-recommends build-dep /build/slm-pg-$version"
}

build() {
    inside "$builder" env DEB_BUILD_OPTIONS=nocheck \
        sh -ec "cd /build/slm-pg-$version && pg_buildext updatecontrol && dpkg-buildpackage -us -uc -j2" >"$out/build.log" 2>&1 ||
        { tail -n 40 "$out/build.log"; return 1; }
    cp "$matrix/$builder"/build/*.deb "$out/"
}

lint() { inside "$builder" sh -c "cd /build && lintian --allow-root --fail-on error,warning *.changes"; }

# The base system with the packages, and the models at hand so that only their checksums are taken.
clean_root() {
    local name default
    clean_copy "$clean" || return
    mkdir -p "$matrix/$clean/var/lib/slm_pg"
    while IFS=$'\t' read -r name default _; do
        [ "$default" != yes ] || cp -a "$models/$name" "$matrix/$clean/var/lib/slm_pg/" || return
    done < <(grep -v '^#' models/manifest.tsv)
    cp "$out"/*.deb debian/tests/first-answer "$matrix/$clean/tmp/"
}

answer() { inside "$clean" /tmp/first-answer; }

# What README says, to the letter, but for what is not in a bare system: sudo, an init that starts the server, a database; then a label for
# a role that owns nothing.  The models are there, so the time is that without downloads.
by_readme() {
    local root=$matrix/$clean commands begin
    commands=$(sed -n '/^From the packages/,/^Or as an image/{/^```sh$/,/^```$/{/^```/!p}}' README.md)
    [ "$(wc -l <<<"$commands")" -eq 3 ] || { echo "README has other commands: $commands"; return 1; }
    # shellcheck disable=SC2016
    printf '%s\n' '#!/bin/sh' 'user=root; [ "$1" != -u ] || { user=$2; shift 2; }' \
        'exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"' >"$root/usr/bin/sudo"
    chmod 755 "$root/usr/bin/sudo"
    rm -f "$root"/tmp/*-dbgsym_*
    {
        printf '%s\n' 'set -eu' 'cd /tmp' 'export DEBIAN_FRONTEND=noninteractive'
        sed -n 1p <<<"$commands" | sed 's/apt install/apt install -qq -y --no-install-recommends/; s/postgresql-17/postgresql-*/'
        echo 'pg_lsclusters -h | { read -r v name port state rest; [ "$state" = online ] || pg_ctlcluster "$v" "$name" start; }'
        echo 'sudo -u postgres createdb shop'
        sed -n 2,3p <<<"$commands"
        echo 'sudo -u postgres createuser visitor'
        echo "sudo -u postgres psql -XqtA -d shop -c 'SET SESSION AUTHORIZATION visitor' \\"
        echo "    -c \"SELECT slm_classify('Where is my parcel?', ARRAY['payment', 'delivery'])\""
    } >"$root/tmp/by_readme"
    begin=$SECONDS
    inside "$clean" bash /tmp/by_readme | tee "$out/readme.log"
    seconds=$((SECONDS - begin))
    [ "$(tail -n 1 "$out/readme.log")" = delivery ]
}

# What a purge leaves behind: nothing with our name, except what the server's own cluster holds.
purge() {
    inside "$clean" sh -ec 'pg_lsclusters -h | while read v c _; do pg_ctlcluster $v $c stop -m fast; done
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge "postgresql-*-slm-pg" slm-pg-models >/dev/null
        others="-path /proc -o -path /tmp -o -path /var/lib/postgresql -o -path /var/cache -o -path /var/lib/apt"
        left=$(find / -xdev \( $others \) -prune -o \( -name "*slm_pg*" -o -name "*slm-pg*" -o -name slm_fetch \) -print)
        [ -z "$left" ] || { echo "left behind: $left"; exit 1; }'
}

# steps DOCKERFILE FOLDER: prints the root of the last stage
steps() {
    local context=$matrix/docker/context
    python3 scripts/dockerfile_steps.py "$context/packaging/docker/$1" "$context" "$matrix/docker/base" "$matrix/docker/$2"
}

# What `docker run` does after the steps: a cluster, the script of the first start, an answer; and what an image volume holds.
docker_base() {
    rm -rf "$matrix/docker" && mkdir -p "$matrix/docker/context" && committed "$matrix/docker/context" || return
    release=trixie clean_copy docker/base || return
    inside docker/base env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install postgresql ccache
}

docker_run() {
    local root
    root=$(steps Dockerfile image | tail -n 1)
    [ -d "$root" ] || return
    inside "${root#"$matrix/"}" sh -ec 'pg_lsclusters -h | grep -q main || pg_createcluster 17 main
        echo "shared_preload_libraries = slm_pg" >>/etc/postgresql/17/main/postgresql.conf
        pg_ctlcluster 17 main start
        answer=$(su postgres -s /bin/sh -c "cd / && POSTGRES_DB=postgres POSTGRES_USER=postgres /docker-entrypoint-initdb.d/10_slm_pg.sh &&
            psql -XqtA -c \"SELECT slm_classify('"'I was charged twice'"', ARRAY['"'payment'"', '"'delivery'"'])\"" | tail -n 1)
        pg_ctlcluster 17 main stop -m fast
        echo "answer: $answer"; [ "$answer" = payment ]'
}

image_volume() {
    local root
    # Debian's server is another version than the image's
    sed -i 's/server-dev-18/server-dev-17/; s,/18/,/17/,g' "$matrix/docker/context/packaging/docker/image_volume.Dockerfile"
    root=$(steps image_volume.Dockerfile volume | tail -n 1)
    [ -e "$root/lib/slm_pg.so" ] && [ -e "$root/share/extension/slm_pg.control" ] && [ -e "$root/lib/libjansson.so.4" ]
}

python3 models/fetch --default >/dev/null || exit 1
for release in ${*:-bookworm trixie docker}; do
    out=build/package/$release
    builder=$release-builder
    clean=$release-clean
    rm -rf "$out"
    mkdir -p "$out"
    if [ "$release" = docker ]; then
        check "a system with a server" docker_base || continue
        check "the image answers" docker_run
        check "an image volume" image_volume
        continue
    fi
    check "a system with what building needs" build_machine || continue
    check "the packages are built" build || continue
    check "lintian has nothing to say" lint
    check "a system with nothing on it" clean_root || continue
    check "README's three commands and a label for a role that owns nothing" by_readme || continue
    echo "   from nothing to that label: $seconds s"
    check "the first answer" answer
    check "purge leaves nothing behind" purge
done
echo "package: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
