#!/usr/bin/env bash
# What drivers send and get: psycopg 3 (with it the programs of docs/COOKBOOK.md), asyncpg, SQLAlchemy, Django and node-postgres, and pgx
# and JDBC where a Go compiler or a JDK with Maven is (make test-clients installs them), against a running server (PGHOST, PGPORT, ... as
# test/run.sh sets them); packages are installed once into build/clients.  Each prints "name: N passed, N failed"; one whose packages
# cannot be had says "skip".
set -u
cd "$(dirname "$0")/../.." || exit 1
home=$PWD/build/clients
failed=0
mkdir -p "$home"

# once DIRECTORY LIST COMMAND...: runs the command unless it has already brought what the list names
once() {
    local directory=$1 list=$2
    shift 2
    cmp -s "$list" "$directory/.list" && return 0
    rm -rf "$directory"
    "$@" >"$home/install.log" 2>&1 && cp "$list" "$directory/.list"
}

python_packages() {
    python3 -m venv "$home/python" && "$home/python/bin/pip" install --quiet --disable-pip-version-check -r test/clients/requirements.txt
}
node_packages() {
    mkdir -p "$home/node" && cp test/clients/package.json "$home/node/" &&
        (cd "$home/node" && npm install --no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error)
}

pgx_program() {
    mkdir -p "$home/pgx" && cp test/clients/pgx/* "$home/pgx/" && (cd "$home/pgx" && GOFLAGS=-mod=mod go build -o clients .)
}
jdbc_classes() {
    mkdir -p "$home/jdbc" && mvn -q -B -f test/clients/jdbc/pom.xml dependency:copy-dependencies -DoutputDirectory="$home/jdbc/lib" &&
        javac -Xlint:all -Werror -cp "$home/jdbc/lib/*" -d "$home/jdbc" test/clients/jdbc/JdbcTest.java
}

psql -X -q -v ON_ERROR_STOP=1 -f test/clients/setup.sql || exit 1
if once "$home/python" test/clients/requirements.txt python_packages; then
    for test in test_psycopg test_asyncpg test_sqlalchemy test_django test_examples; do
        "$home/python/bin/python" "test/clients/$test.py" || failed=1
    done
else
    tail -n 3 "$home/install.log"
    echo "skip psycopg, asyncpg, SQLAlchemy, Django and the examples: their packages cannot be installed"
fi
if once "$home/node" test/clients/package.json node_packages; then
    NODE_PATH=$home/node/node_modules node test/clients/test_node_postgres.js || failed=1
else
    tail -n 3 "$home/install.log"
    echo "skip node-postgres: its packages cannot be installed"
fi
if ! command -v go >/dev/null; then
    echo "no Go compiler: pgx is not tried (make test-clients)"
elif once "$home/pgx" test/clients/pgx/main.go pgx_program; then
    "$home/pgx/clients" || failed=1
else
    tail -n 3 "$home/install.log"
    echo "skip pgx: it cannot be built"
fi
if ! command -v mvn >/dev/null || ! command -v javac >/dev/null; then
    echo "no JDK or no Maven: JDBC is not tried (make test-clients)"
elif once "$home/jdbc" test/clients/jdbc/JdbcTest.java jdbc_classes; then
    socket="sslmode=disable&socketFactory=org.newsclub.net.unix.AFUNIXSocketFactory\$FactoryArg&socketFactoryArg=$PGHOST/.s.PGSQL.$PGPORT"
    java -cp "$home/jdbc:$home/jdbc/lib/*" JdbcTest "jdbc:postgresql://localhost/$PGDATABASE?user=$PGUSER&$socket" ||
        failed=1
else
    tail -n 3 "$home/install.log"
    echo "skip JDBC: its packages cannot be installed"
fi
exit $failed
