# shellcheck shell=bash
# A private PostgreSQL server for tests, demo and benchmark; sourced by bash scripts that stand in the repository's root.
#
# Everything lives in one temporary directory $slm_root and vanishes on exit, whatever happened:
#   $slm_root/usr/...   a copy of the server's programs, libraries and share files, into which the extension is installed; the
#                       server finds its files relative to its own place, so the installed server is never touched
#   $slm_work (work)    what the server's user may write: data directory, socket, output of the tests
#   $slm_root/cache     the default models, where the server's user can read them
# The server refuses to run as root, so root runs it as the user nobody; anyone else runs it as himself.  It listens on a
# socket in the private directory only, and the environment's PG* variables are dropped, so no other server is ever reached.

slm_root=
slm_work=
slm_servers=

slm_cleanup() {
    local data exe
    for data in $slm_servers; do
        as_server "$slm_bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
    done
    # servers of TAP tests that were interrupted: whatever still runs a program of our own copy
    for exe in /proc/[0-9]*/exe; do
        [ -n "$slm_root" ] || break
        case $(readlink "$exe" 2>/dev/null) in
        "$slm_root"/*) kill -QUIT "$(basename "$(dirname "$exe")")" 2>/dev/null ;;
        esac
    done
    [ -z "$slm_root" ] || rm -rf "$slm_root"
}

# Runs a command as the server's user, in the directory it may write.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$slm_work" && HOME=$slm_work exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@")
    else
        (cd "$slm_work" && HOME=$slm_work exec "$@")
    fi
}

# Copies files or directories into a directory where everyone can read them; hard links where possible.
slm_share() {
    local target=$1
    shift
    mkdir -p "$target"
    cp -alf "$@" "$target" 2>/dev/null || cp -a "$@" "$target"
    chmod -R a+rX "$target" 2>/dev/null || true
}

# Builds the extension, makes the private copy of the server and installs the extension there.
slm_install_private() {
    local config=${PG_CONFIG:-pg_config} directory name
    unset "${!PG@}" OPENBLAS_CORETYPE
    export PG_CONFIG=$config LANG=C.UTF-8 LC_ALL=C.UTF-8
    make --no-print-directory -j2 all || return 1

    slm_root=$(mktemp -d "${TMPDIR:-/tmp}/slm.XXXXXX")
    trap slm_cleanup EXIT
    trap 'exit 130' INT TERM HUP
    chmod 755 "$slm_root"
    slm_work=$slm_root/work
    for directory in "$("$config" --bindir)" "$("$config" --pkglibdir)" "$("$config" --sharedir)"; do
        mkdir -p "$slm_root$(dirname "$directory")"
        cp -a "$directory" "$slm_root$(dirname "$directory")/"
    done
    slm_bin=$slm_root$("$config" --bindir)
    make --no-print-directory install PG_CONFIG="$slm_bin/pg_config" >"$slm_root/install.log" 2>&1 || {
        cat "$slm_root/install.log"
        return 1
    }
    [ "$("$slm_bin/pg_config" --pkglibdir)" = "$slm_root$("$config" --pkglibdir)" ] || {
        echo "the copied server does not find its own files" >&2
        return 1
    }

    mkdir -p "$slm_work"
    [ "$(id -u)" -ne 0 ] || chown nobody:nogroup "$slm_work"
    if [ "$(id -u)" -eq 0 ]; then
        while IFS=$'\t' read -r name directory _; do
            [ "$directory" != yes ] || slm_share "$slm_root/cache" "${SLM_MODEL_CACHE:-$HOME/.cache/slm_pg}/$name"
        done < <(grep -v '^#' models/manifest.tsv)
        export SLM_MODEL_CACHE=$slm_root/cache
    fi
    export PATH=$slm_bin:$PATH PGHOST=$slm_work PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}

# slm_start NAME [configuration line ...]: makes a cluster and starts it; PGHOST and PGPORT lead to it.
slm_start() {
    local data=$slm_work/$1 line
    shift
    as_server "$slm_bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$slm_root/initdb.log" 2>&1 || {
        cat "$slm_root/initdb.log"
        return 1
    }
    {
        printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$slm_work'" "port = $PGPORT" "fsync = off" \
            "shared_buffers = 64MB" "max_connections = 60" "log_min_messages = warning" "log_error_verbosity = default" "$@"
    } | as_server tee -a "$data/postgresql.conf" >/dev/null
    slm_servers="$slm_servers $data"
    # the cache of models is what clients know
    as_server env -u SLM_MODEL_CACHE "$slm_bin/pg_ctl" -D "$data" -l "$data.log" -w -t 60 start >/dev/null || {
        as_server tail -n 40 "$data.log"
        return 1
    }
}

# slm_stop NAME: stops a cluster made by slm_start.
slm_stop() {
    as_server "$slm_bin/pg_ctl" -D "$slm_work/$1" -m fast -w stop >/dev/null
}
