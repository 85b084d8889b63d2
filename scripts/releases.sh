# shellcheck shell=bash
# Releases of Debian in folders of their own, for what is built and tried on other systems than this; sourced by bash scripts that
# stand in the repository's root.  They need root, debootstrap and unshare.
#
# SLM_MATRIX   the folders ($HOME/.cache/slm_pg/matrix); each is made once, 2 GB; remove it to have a new one
# A script that sources this defines `missing TEXT`, which says why a release cannot be had and returns 1.

matrix=${SLM_MATRIX:-$HOME/.cache/slm_pg/matrix}
models=${SLM_MODEL_CACHE:-$HOME/.cache/slm_pg}

packages="postgresql build-essential clang llvm ccache python3 python3-pip libpcre2-dev libutf8proc-dev libjansson-dev libxxhash-dev
    libopenblas-serial-dev libipc-run-perl xz-utils"

# inside RELEASE COMMAND ...: in a release's folder, with /proc and /dev; the mounts end with the command
inside() {
    local root=$matrix/$1
    shift
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -c 'root=$1; shift; mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"' sh "$root" "$@"
}

apt() { inside "$release" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -y --no-install-recommends "$@" >>"$log" 2>&1; }

# A release with server, headers, compilers and libraries in its folder.
make_release() {
    local release=$1 root=$matrix/$1 log=build/log/matrix/$1.setup.log version
    [ ! -e "$root/.ready" ] || return 0
    [ "$(id -u)" -eq 0 ] || missing "needs root" || return
    command -v debootstrap >/dev/null || missing "needs debootstrap" || return
    unshare --mount true 2>/dev/null || missing "needs unshare --mount" || return
    echo "making $root"
    rm -rf "$root"
    debootstrap --variant=minbase "$release" "$root" >"$log" 2>&1 || missing "see $log" || return
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    # no server of the release's own is ever made or started
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/etc/postgresql-common"
    echo "create_main_cluster = false" >"$root/etc/postgresql-common/createcluster.conf"
    # shellcheck disable=SC2086
    apt install $packages || missing "see $log" || return
    version=$(basename "$root"/usr/lib/postgresql/*)
    apt install "postgresql-server-dev-$version" || missing "see $log" || return
    touch "$root/.ready"
}

# copy_tree FOLDER: what belongs to the project, without what was built
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
            [ ! -e "$file" ] || printf '%s\0' "$file"
        done | tar --null -T - -cf - | tar -xf - -C "$1"
    else
        tar --exclude=./build --exclude='*.o' --exclude='*.a' --exclude='*.so' -cf - . | tar -xf - -C "$1"
    fi
}

# share_models RELEASE: the default models, where a release's root has its cache
share_models() {
    local name default
    mkdir -p "$matrix/$1/root/.cache/slm_pg"
    while IFS=$'\t' read -r name default _; do
        [ "$default" != yes ] || cp -alf "$models/$name" "$matrix/$1/root/.cache/slm_pg/" 2>/dev/null ||
            cp -a "$models/$name" "$matrix/$1/root/.cache/slm_pg/"
    done < <(grep -v '^#' models/manifest.tsv)
}

# older_server RELEASE: this machine's server (PG_CONFIG) with what is built here, at its place in the release's folder, and those of its
# libraries that the release has in another version only.  What a release has itself stays.
older_server() {
    local root=$matrix/$1 config=${PG_CONFIG:-pg_config} directory own library
    [ "$("$config" --version)" != "$(inside "$1" pg_config --version)" ] || missing "this machine has the server of $1" || return
    for directory in "$("$config" --bindir)" "$("$config" --pkglibdir)" "$("$config" --sharedir)"; do
        rm -rf "${root:?}$directory"
        mkdir -p "$root$(dirname "$directory")"
        cp -a "$directory" "$root$(dirname "$directory")/"
    done
    rm -f "$root$("$config" --pkglibdir)"/llvmjit* # would bring a compiler with it
    make --no-print-directory install DESTDIR="$root" PG_CONFIG="$config" >"build/log/matrix/$place.setup.log" 2>&1 ||
        missing "see build/log/matrix/$place.setup.log" || return
    rm -rf "$root/opt/older"
    mkdir -p "$root/opt/older"
    own=$(inside "$1" ldconfig -p)
    find "$("$config" --bindir)" "$root$("$config" --pkglibdir)" -type f -exec ldd {} + 2>/dev/null |
        awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u | while read -r library; do
        grep -qF "$(basename "$library") " <<<"$own" || cp -L "$library" "$root/opt/older/"
    done
    echo /opt/older >"$root/etc/ld.so.conf.d/older.conf"
    inside "$1" ldconfig
}
