# The middle of an upgrade script: every statement of sql/parts, so that what is replaced has the shape of a fresh install.
#
# usage: awk -f upgrade.awk before.sql part.sql ...
# Functions, procedures and views are created OR REPLACE, which keeps their grants and what users have built on them.  Tables that
# before.sql names in a line "-- stays: slm.a slm.b" are passed over with their indexes and triggers: before.sql has altered them.
# So are the grants on what is named there, which an administrator may have changed.  Comments and marks for pg_dump are given again.

# The text without what stands in quotes, dollar quotes or comments: what is left decides where a statement ends.
function code(line,    out, c) {
    out = ""
    while (line != "") {
        if (quote != "") {
            c = index(line, quote)
            if (c == 0)
                return out
            line = substr(line, c + length(quote))
            quote = ""
        } else if (match(line, /'|\$[A-Za-z_]*\$|--/)) {
            c = substr(line, RSTART, RLENGTH)
            out = out substr(line, 1, RSTART - 1)
            line = substr(line, RSTART + RLENGTH)
            if (c == "--")
                return out
            quote = c
        } else {
            return out line
        }
    }
    return out
}

# The table that a statement makes or changes the shape of, or whose privileges it changes; empty for any other statement.
function table_of(statement,    words, n, i) {
    if (statement !~ /^(CREATE (TABLE|INDEX|UNIQUE INDEX|TRIGGER)|ALTER TABLE|GRANT|REVOKE) /)
        return ""
    n = split(statement, words, /[ \t\n(]+/)
    if (statement ~ /^(CREATE|ALTER) TABLE /)
        return words[3]
    for (i = 2; i < n; i++)
        if (words[i] == "ON")
            return words[i + 1]
    return ""
}

function put(statement) {
    if (statement ~ /^(CREATE|GRANT [A-Z]+ ON) SCHEMA / || (table_of(statement) in stays))
        return
    if (statement ~ /^CREATE (FUNCTION|PROCEDURE|VIEW) /)
        sub(/^CREATE /, "CREATE OR REPLACE ", statement)
    print statement
}

FNR == NR {
    if (sub(/^-- stays: */, "")) {
        n = split($0, names, / +/)
        for (i = 1; i <= n; i++)
            stays[names[i]] = 1
    }
    next
}
statement == "" && (/^[ \t]*(--.*)?$/ || /^\\/) { next }
{
    statement = statement (statement == "" ? "" : "\n") $0
    rest = code($0)
    if (quote == "" && rest ~ /;[ \t]*$/) {
        put(statement)
        statement = ""
    }
}
