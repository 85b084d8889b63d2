# Random statements, each run in the plain way and through SLM Batch: the same rows in the same order, the same error, the same effects.
#
# A small grammar writes SELECTs (joins of every kind, subqueries, CTEs, set operations, aggregates, grouping sets, windows, limits), DML
# with RETURNING, cursors, loops and prepared statements around slm_* calls, over tables with NULLs, partitions, children, dropped and
# generated columns, domains, composites, policies, triggers and rules.  Arguments fail in some rows.  Everything follows from the seed:
# SLM_TEST_SEED chooses another, SLM_TEST_COUNT another number of statements (from SLM_TEST_FIRST on),
# SLM_TEST_LONG=1 some thousands.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $seed = $ENV{SLM_TEST_SEED} || 20;
my $count = $ENV{SLM_TEST_COUNT} || (long_run() ? 3000 : 120);
my $first = $ENV{SLM_TEST_FIRST} || 1;
my $tiny = "$FindBin::RealBin/../data/tiny.gguf";

# The generator of numbers is our own, so that a seed means the same everywhere.
my $state;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub pick { return $_[ rnd(scalar @_) ]; }
sub chance { return rnd(100) < $_[0]; }

# ---- expressions: $c is the scope, {text => [...], int => [...]}

my ($alias, $volatile, $calls);

sub column { my ($c, $type) = @_; my @columns = @{ $c->{$type} }; return @columns ? pick(@columns) : $type eq 'int' ? rnd(9) : "'word'"; }

sub labels
{
	my ($c, $d) = @_;
	return pick("ARRAY['billing', 'delivery']", "ARRAY['a', 'b', 'c']", "descriptions => '{\"x\": \"money\", \"y\": null}'",
		"CASE WHEN " . int_expr($c, 0) . " % 7 = 3 THEN '{}'::text[] ELSE ARRAY['one', 'two'] END", "ARRAY['left', " . text_expr($c, 0) . "]");
}

sub call
{
	my ($c, $d) = @_;
	my $k = rnd(16);
	$calls++;
	my $text = text_expr($c, $d - 1);
	return "slm_generate($text, max_tokens => " . (2 + rnd(2)) . ')' if $k < 5;
	return "slm_classify($text, " . labels($c, $d) . ')' if $k < 9;
	return "slm_classify_enum($text, NULL::mood)::text" if $k == 9;
	return "slm_generate($text, max_tokens => 2, temperature => 0.9, seed => " . int_expr($c, 0) . ')' if $k == 10;
	return "slm_generate($text, max_tokens => " . int_expr($c, 0) . ' % 4)' if $k == 11;
	return "slm_summarize($text, 2)" if $k == 12;
	return "slm_sentiment($text)" if $k == 13;
	return "(slm_classify_multi($text, ARRAY['a', 'b'], threshold => 0))[" . int_expr($c, 0) . " % 3]" if $k == 14;
	return "round(slm_perplexity($text)::numeric, 3)::text";
}

sub text_expr
{
	my ($c, $d) = @_;
	return column($c, 'text') if $d <= 0 && chance(75);
	return pick("'a late parcel'", "'refund please'", "''", 'NULL::text', "'straße 🚲'") if $d <= 0;
	my $k = rnd(26);
	return column($c, 'text') if $k < 4;
	return call($c, $d) if $k < 13;
	return '(' . text_expr($c, $d - 1) . ' || ' . text_expr($c, $d - 1) . ')' if $k == 13;
	return 'upper(' . text_expr($c, $d - 1) . ')' if $k == 14;
	return 'left(' . text_expr($c, $d - 1) . ', ' . int_expr($c, 0) . ')' if $k == 15;
	return 'substr(' . text_expr($c, $d - 1) . ', 1, ' . int_expr($c, 0) . ' - 2)' if $k == 16;
	return 'coalesce(' . join(', ', map { text_expr($c, $d - 1) } 0 .. rnd(2) + 1) . ')' if $k == 17;
	return 'CASE WHEN ' . bool_expr($c, $d - 1) . ' THEN ' . text_expr($c, $d - 1) . ' ELSE ' . text_expr($c, $d - 1) . ' END' if $k == 18;
	return 'CASE ' . int_expr($c, 0) . ' % 3 WHEN 0 THEN ' . text_expr($c, $d - 1) . ' WHEN ' . int_expr($c, $d - 1) . ' THEN ' . text_expr($c, $d - 1) . ' END' if $k == 19;
	return pick('note_prefix', 'set_prefix', 'definer_prefix', 'sql_prefix') . '(' . text_expr($c, $d - 1) . ')' if $k == 20;
	return '(' . scalar_query($c, 'text', $d - 1) . ')' if $k == 21;
	return '(' . text_expr($c, $d - 1) . ')::short_text::text' if $k == 22;
	return '(ARRAY[' . text_expr($c, $d - 1) . ', ' . text_expr($c, $d - 1) . '])[' . int_expr($c, 0) . ' % 3]' if $k == 23;
	return pick('nullif', 'greatest', 'concat') . '(' . text_expr($c, $d - 1) . ', ' . text_expr($c, $d - 1) . ')' if $k == 24;
	return '(ROW(' . int_expr($c, 0) . ', ' . text_expr($c, $d - 1) . ')::pair).b';
}

sub int_expr
{
	my ($c, $d) = @_;
	return chance(80) ? column($c, 'int') : rnd(10) if $d <= 0;
	my $k = rnd(14);
	return column($c, 'int') if $k < 5;
	return '(' . int_expr($c, $d - 1) . pick(' + ', ' * ', ' - ') . int_expr($c, 0) . ')' if $k < 7;
	return '(' . int_expr($c, $d - 1) . ' / (' . int_expr($c, 0) . ' - ' . (chance(50) ? 9 : 50) . '))' if $k == 7;
	return 'length(' . text_expr($c, $d - 1) . ')' if $k == 8;
	return 'slm_count_tokens(' . text_expr($c, $d - 1) . ')' if $k == 9;
	return 'fails_at(' . int_expr($c, 0) . ', ' . (8 + rnd(20)) . ')' if $k == 10;
	return 'coalesce(' . int_expr($c, $d - 1) . ', ' . int_expr($c, 0) . ')' if $k == 11;
	if ($k == 12 && chance(25)) { $volatile = 1; return pick("nextval('numbers')::int", '(random() * 10)::int', 'counted(' . int_expr($c, 0) . ')'); }
	return '(' . scalar_query($c, 'int', $d - 1) . ')' if chance(30);
	return rnd(20);
}

sub bool_expr
{
	my ($c, $d) = @_;
	my $k = rnd($d <= 0 ? 4 : 17);
	return int_expr($c, $d - 1) . pick(' < ', ' > ', ' <> ', ' % 2 = ') . int_expr($c, 0) if $k < 2;
	return text_expr($c, $d - 1) . pick(" LIKE '%e%'", " <> 'a'", ' IS NOT NULL', ' IS NULL', " > 'm'") if $k < 4;
	return call($c, $d) . pick(" = 'billing'", " <> 'x'", " < 'q'", ' IS NOT NULL', " = ANY (ARRAY['a', 'one', 'billing', 'x'])") if $k < 9;
	return '(' . bool_expr($c, $d - 1) . ' AND ' . bool_expr($c, $d - 1) . ')' if $k == 9;
	return '(' . bool_expr($c, $d - 1) . ' OR ' . bool_expr($c, $d - 1) . ')' if $k == 10;
	return 'NOT ' . bool_expr($c, $d - 1) if $k == 11;
	return pick('', 'NOT ') . 'EXISTS (' . query($c, $d - 1, ['int']) . ')' if $k == 12;
	return int_expr($c, 0) . pick(' IN ', ' NOT IN ') . '(' . query($c, $d - 1, ['int']) . ')' if $k == 13;
	return text_expr($c, 0) . pick(' = ANY ', ' < ALL ', ' IN ') . '(' . query($c, $d - 1, ['text']) . ')' if $k == 14;
	return 'ROW(' . int_expr($c, 0) . ', ' . text_expr($c, $d - 1) . ') < ROW(' . int_expr($c, 0) . ', ' . text_expr($c, $d - 1) . ')' if $k == 15;
	return '(' . bool_expr($c, $d - 1) . ') IS ' . pick('', 'NOT ') . pick('TRUE', 'FALSE', 'UNKNOWN');
}

sub typed { my ($c, $type, $d) = @_; return $type eq 'int' ? int_expr($c, $d) : text_expr($c, $d); }

# Rows of VALUES: without calls, or with calls that differ in their arguments, or in more.
sub values_list
{
	my ($first) = @_;
	return "VALUES ($first, 'one'), (2, NULL), (9, 'nine lives')" if chance(30);
	my @texts = map { text_expr({ int => [], text => [] }, 0) } 1 .. 3;
	my $form = pick('slm_generate(%s, max_tokens => 2)', "slm_classify(%s, ARRAY['a', 'b', 'c'])", "upper(slm_generate(%s, max_tokens => %d)) || 'x'", "'y' || slm_summarize(%s, 2)");
	my @calls = map { sprintf($form, $texts[$_], $_ + (chance(10) ? 0 : 1)) } 0 .. 2;
	$calls[1] = call({ int => [], text => [] }, 1) if chance(20);
	$calls++;
	return "VALUES ($first, $calls[0]), (2, $calls[1]), (9, $calls[2])";
}

# ---- relations: [SQL, [columns of int], [columns of text]]

my @tables = ([ 'ticket', [ 'id', 'team' ], [ 'body', 'note' ] ], [ 'ticket', [ 'id', 'team' ], ['body'] ], [ 'team', ['id'], [ 'name', 'hint' ] ],
	[ 'part', [ 'id', 'grp' ], ['body'] ], [ 'parent', ['id'], ['body'] ], [ 'changed', [ 'id', 'len' ], [ 'body', 'tag' ] ],
	[ 'wide', [ 'id', 'w3', 'w19' ], [ 'body', 'dom' ] ], [ 'barrier', ['id'], ['body'] ], [ 'guarded', [ 'id', 'owner_no' ], ['body'] ],
	[ 'labelled', ['id'], [ 'body', 'label' ] ]);

sub relation
{
	my ($c, $d) = @_;
	my $a = 't' . ++$alias;
	my $k = rnd(20);
	if ($k == 0 && $d > 0) { return [ '(' . query({ int => [], text => [] }, $d - 1, [ 'int', 'text' ]) . ") $a(i, x)", ["$a.i"], ["$a.x"] ]; }
	if ($k == 1 && $d > 0) { return [ 'LATERAL (' . query($c, $d - 1, [ 'int', 'text' ]) . ") $a(i, x)", ["$a.i"], ["$a.x"] ]; }
	return [ "generate_series(1, " . (1 + rnd(6)) . ") $a(i)", ["$a.i"], [] ] if $k == 2;
	return [ '(' . values_list(pick(1, 1, 2, 5)) . ") $a(i, x)", ["$a.i"], ["$a.x"] ] if $k == 3;
	return [ "LATERAL bodies_of(" . int_expr($c, 0) . ") $a(i, x)", ["$a.i"], ["$a.x"] ] if $k == 4;
	return [ "ROWS FROM (unnest(ARRAY['p', 'q', NULL]), generate_series(1, 2)) $a(x, i)", ["$a.i"], ["$a.x"] ] if $k == 5;
	my $t = $k == 6 ? [ 'ticket TABLESAMPLE', [ 'id', 'team' ], ['body'] ] : pick(@tables);
	my $sql = $k == 6 ? "ticket $a TABLESAMPLE BERNOULLI (60) REPEATABLE (" . rnd(9) . ')' : "$t->[0] $a";
	return [ $sql, [ map { "$a.$_" } @{ $t->[1] } ], [ map { "$a.$_" } @{ $t->[2] } ] ];
}

# FROM: returns its text; the columns join the scope.
sub from
{
	my ($c, $d) = @_;
	my $first = relation($c, $d);
	my $sql = $first->[0];
	my $n = rnd(10) < 5 ? 0 : rnd(10) < 7 ? 1 : 2;
	my (@ints, @texts);
	push @ints, @{ $first->[1] };
	push @texts, @{ $first->[2] };
	for (1 .. $n)
	{
		my $all = { int => [ @ints, @{ $c->{int} } ], text => [ @texts, @{ $c->{text} } ] };
		my $kind = pick('JOIN', 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', 'CROSS JOIN');
		my $next = relation($kind =~ /RIGHT|FULL/ ? $c : $all, $d - 1);
		my $both = { int => [ @{ $next->[1] }, @ints ], text => [ @{ $next->[2] }, @texts ] };
		$sql .= " $kind $next->[0]";
		if ($kind ne 'CROSS JOIN')
		{
			my $on = pick(@ints, 3) . ' = ' . pick(@{ $next->[1] });
			$on = call({ int => \@ints, text => \@texts }, 1) . ' = ' . text_expr($both, 0) if chance(25);
			$on .= ' AND ' . bool_expr($both, 1) if chance(30) && $kind ne 'FULL JOIN';
			$sql .= " ON $on";
		}
		push @ints, @{ $next->[1] };
		push @texts, @{ $next->[2] };
	}
	return ($sql, { int => [ @ints, @{ $c->{int} } ], text => [ @texts, @{ $c->{text} } ], own => [ @ints, @texts ] });
}

# ---- queries whose columns have the given types

sub limit_clause
{
	return pick(' LIMIT ' . (1 + rnd(6)), ' LIMIT ' . (1 + rnd(6)) . ' OFFSET ' . rnd(4), ' FETCH FIRST ' . (1 + rnd(4)) . ' ROWS WITH TIES', ' LIMIT (SELECT 1 + count(*) FROM team)',
		' OFFSET ' . rnd(5));
}

sub grouped
{
	my ($c, $d, $types, $sql) = @_;
	my @keys = map { chance(40) ? call($c, 1) : chance(50) ? column($c, 'int') : column($c, 'text') } 0 .. rnd(2);
	my $first = $keys[0];
	my @out = map {
		$_ eq 'int' ? pick('count(*)::int', 'count(' . text_expr($c, $d) . ')::int', 'max(' . int_expr($c, $d) . ')', 'sum(length(' . text_expr($c, $d) . '))::int',
			'count(DISTINCT ' . text_expr($c, 1) . ')::int', 'count(*) FILTER (WHERE ' . bool_expr($c, 1) . ')::int',
			'count(' . text_expr($c, $d) . ') FILTER (WHERE ' . bool_expr($c, 2) . ')::int')
		  : pick('max(' . text_expr($c, $d) . ')', "($first)::text", 'string_agg(' . text_expr($c, $d) . ", ',' ORDER BY " . column($c, 'int') . ')', 'slm_generate(min(' . text_expr($c, 1) . '), max_tokens => 2)',
			'array_agg(' . text_expr($c, 1) . ' ORDER BY ' . text_expr($c, 0) . ')::text', 'min(' . text_expr($c, $d) . ') FILTER (WHERE ' . bool_expr($c, 1) . ')')
	} @$types;
	my $group = @keys > 1 && chance(30) ? pick('GROUPING SETS ((' . join('), (', @keys) . '), ())', 'ROLLUP (' . join(', ', @keys) . ')', 'CUBE (' . join(', ', @keys) . ')') : join(', ', @keys);
	$sql = 'SELECT ' . join(', ', @out) . " FROM $sql GROUP BY $group";
	$sql .= ' HAVING ' . pick('count(*) > 1', 'slm_classify(min(' . text_expr($c, 0) . "), ARRAY['a', 'b']) = 'a'", 'max(' . text_expr($c, 1) . ') IS NOT NULL') if chance(35);
	return $sql;
}

sub window_expr
{
	my ($c, $type, $d) = @_;
	my $over = '(' . (chance(50) ? 'PARTITION BY ' . (chance(40) ? call($c, 1) : column($c, 'int')) . ' ' : '') . 'ORDER BY ' . column($c, 'int') . ', ' . column($c, 'text')
	  . pick('', '', ' ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW', ' ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING', ' ROWS BETWEEN CURRENT ROW AND CURRENT ROW EXCLUDE CURRENT ROW') . ')';
	return pick('row_number()', 'rank()', 'count(' . text_expr($c, $d) . ')', 'sum(' . int_expr($c, 0) . ')') . " OVER ${over}::int" if $type eq 'int' && $over !~ /ROWS/;
	return 'count(' . text_expr($c, $d) . ')' . (chance(40) ? ' FILTER (WHERE ' . bool_expr($c, 1) . ')' : '') . " OVER ${over}::int" if $type eq 'int';
	return pick('max', 'min', 'lag', 'first_value', 'last_value') . '(' . text_expr($c, $d) . ") OVER $over";
}

sub query
{
	my ($outer, $d, $types) = @_;
	if ($d > 0 && chance(7))
	{
		return '(' . query($outer, $d - 1, $types) . ') ' . pick('UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT', 'UNION ALL', 'EXCEPT ALL') . ' (' . query($outer, $d - 1, $types) . ')';
	}
	my ($sql, $c) = from($outer, $d);
	$sql .= ' WHERE ' . bool_expr($c, $d) if chance(60);
	return grouped($c, $d > 1 ? 1 : 0, $types, $sql) if chance(16) && $d > 0;
	my $order = ' ORDER BY ' . (chance(15) ? call($c, 1) . ', ' : '') . join(', ', @{ $c->{own} });
	$order = ' ORDER BY ' . column($c, 'int') if chance(15);
	my @out = map { $d > 0 && chance(10) ? window_expr($c, $_, 1) : typed($c, $_, $d) } @$types;
	my $distinct = '';
	if (chance(8)) { $distinct = 'DISTINCT '; $order = ''; }
	elsif (chance(6)) { my $k = column($c, 'int'); $distinct = "DISTINCT ON ($k) "; $order = " ORDER BY $k, " . join(', ', @{ $c->{own} }); }
	$order .= chance(40) ? limit_clause() : '' if $order ne '';
	$sql = "SELECT $distinct" . join(', ', @out) . " FROM $sql" . (chance(55) ? $order : '');
	return $sql;
}

sub scalar_query
{
	my ($outer, $type, $d) = @_;
	my ($sql, $c) = from($outer, 0);
	my $x = typed($c, $type, $d);
	$sql .= ' WHERE ' . bool_expr($c, $d) if chance(60);
	return chance(50) ? "SELECT max($x) FROM $sql" : "SELECT $x FROM $sql ORDER BY " . join(', ', @{ $c->{own} }) . ' LIMIT 1' if chance(90);
	return "SELECT $x FROM $sql"; # fails where there is more than one
}

sub top_query
{
	my ($types) = @_;
	my $none = { int => [], text => [] };
	my $k = rnd(12);
	if ($k == 0)
	{
		my $m = pick('', 'MATERIALIZED ', 'NOT MATERIALIZED ');
		push @tables, [ 'cte', ['i'], ['x'] ];
		my $cte = query($none, 2, [ 'int', 'text' ]);
		my $main = query($none, 2, $types);
		pop @tables;
		return "WITH cte(i, x) AS $m(" . $cte . ") $main" unless $cte =~ /\bcte\b/;
		return query($none, 2, $types);
	}
	if ($k == 1)
	{
		my $r = { int => ['r.n'], text => ['r.x'] };
		my $body = text_expr($r, 2);
		return query($none, 2, $types) if $body =~ /SELECT/ || @$types < 2;
		return "WITH RECURSIVE r(n, x) AS (SELECT 1, 'start'::text UNION ALL SELECT n + 1, $body FROM r WHERE n < 5) SELECT n, x FROM r";
	}
	return query($none, 3, $types);
}

# ---- statements: { setup, sql, after }

sub modification
{
	my $c = { int => [ 'id', 'team' ], text => [ 'body', 'note' ] };
	my $k = rnd(15);
	my $returning = chance(35) ? ' RETURNING id, ' . text_expr({ int => ['ticket.id'], text => [ 'ticket.body', 'ticket.note' ] }, 1) : '';
	my $q = { int => [ 'ticket.id', 'ticket.team', 's.id' ], text => [ 'ticket.body', 's.name', 's.hint' ] };
	return 'UPDATE ticket SET note = ' . text_expr($c, 3) . (chance(60) ? ' WHERE ' . bool_expr($c, 2) : '') . $returning if $k < 3;
	return 'UPDATE ticket SET note = ' . text_expr($q, 2) . ', team = ' . int_expr($q, 1) . ' FROM team s WHERE s.id = ticket.team AND ' . bool_expr($q, 2) if $k == 3;
	return 'UPDATE ticket SET (team, note) = (SELECT s.id, ' . text_expr($q, 2) . ' FROM team s WHERE s.id = ticket.team)' if $k == 4;
	return 'DELETE FROM ticket WHERE ' . bool_expr($c, 2) . $returning if $k == 5;
	return 'DELETE FROM ticket USING team s WHERE s.id = ticket.team AND ' . bool_expr($q, 2) if $k == 6;
	return 'INSERT INTO ticket(id, body, note) SELECT 100 + row_number() OVER (), y.i::text, y.x FROM (' . query({ int => [], text => [] }, 2, [ 'int', 'text' ]) . ') y(i, x)' . $returning if $k == 7;
	return 'INSERT INTO ticket(id, note) SELECT ' . int_expr({ int => ['s.id'], text => [] }, 0) . ' * 3, ' . text_expr({ int => ['s.id'], text => [ 's.body', 's.note' ] }, 2)
	  . ' FROM ticket s ORDER BY s.id ON CONFLICT (id) DO ' . pick('NOTHING', "UPDATE SET note = excluded.note || ticket.body, team = 1 WHERE ticket.id > 2") if $k == 8 && ($returning = '') eq '';
	return 'MERGE INTO ticket USING team s ON s.id = ticket.id AND ' . bool_expr($q, 1) . ' WHEN MATCHED AND s.id > 1 THEN UPDATE SET note = ' . text_expr($q, 1)
	  . ' WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, note) VALUES (500 + s.id, ' . text_expr({ int => ['s.id'], text => [ 's.name', 's.hint' ] }, 1) . ')' if $k == 9;
	return "WITH gone AS (DELETE FROM ticket WHERE id % 2 = 0 RETURNING id, body) INSERT INTO answers SELECT id, " . text_expr({ int => ['gone.id'], text => ['gone.body'] }, 2) . ' FROM gone' . (chance(30) ? ' ORDER BY id LIMIT 4' : '') if $k == 10;
	my $p = { int => [ 'part.id', 'part.grp' ], text => ['part.body'] };
	return 'UPDATE part SET body = ' . text_expr($p, 2) . pick('', ', grp = (grp + 1) % 4') . ' WHERE ' . bool_expr($p, 2) . pick('', " RETURNING tableoid::regclass, body, slm_classify(body, ARRAY['a', 'b'])") if $k == 12;
	return 'UPDATE ' . pick('parent', 'child') . ' x SET body = ' . text_expr({ int => ['x.id'], text => ['x.body'] }, 2) . pick('', ' FROM changed c WHERE c.id = x.id RETURNING x.id, x.body, c.tag') if $k == 13;
	return 'INSERT INTO answers ' . values_list(4) if $k == 14;
	return 'INSERT INTO ' . pick('answers', 'ruled', 'triggered', 'part(id, body)') . ' ' . query({ int => [], text => [] }, 2, [ 'int', 'text' ]);
}

sub cursor
{
	my $q = top_query([ 'int', 'text' ]);
	my $sql = 'DECLARE c ' . pick('', '', 'SCROLL ', 'NO SCROLL ') . 'CURSOR ' . pick('', '', 'WITH HOLD ') . "FOR $q;\n";
	my @moves = ('FETCH 1 FROM c', 'FETCH 3 FROM c', 'FETCH 5 FROM c', 'FETCH BACKWARD 2 FROM c', 'FETCH PRIOR FROM c', 'MOVE 2 IN c', 'MOVE BACKWARD 1 IN c', 'FETCH ABSOLUTE 2 FROM c', 'FETCH LAST FROM c',
		'FETCH FIRST FROM c', 'FETCH RELATIVE -1 FROM c', 'FETCH ALL FROM c', 'UPDATE ticket SET note = \'here\' WHERE CURRENT OF c', 'SAVEPOINT p; FETCH 2 FROM c; ROLLBACK TO p', 'FETCH BACKWARD ALL FROM c');
	$sql .= pick(@moves) . ";\n" for 1 .. 3 + rnd(5);
	return $sql;
}

sub loop
{
	my $q = top_query([ 'int', 'text' ]);
	my $inner = call({ int => ['r.i'], text => ['r.x'] }, 1);
	return "DO \$do\$ DECLARE r record; n int := 0; BEGIN FOR r IN SELECT * FROM ($q) y(i, x) LOOP n := n + 1; "
	  . pick('', "BEGIN INSERT INTO answers VALUES (r.i, $inner); EXCEPTION WHEN division_by_zero OR invalid_parameter_value THEN INSERT INTO answers VALUES (-1, SQLERRM); END;",
		"INSERT INTO answers VALUES (n, $inner);")
	  . pick('', "EXIT WHEN n >= " . (1 + rnd(5)) . ';', "IF n = 3 THEN PERFORM note_prefix('x'); END IF;")
	  . " INSERT INTO answers VALUES (r.i, r.x || current_user); END LOOP; END \$do\$";
}

sub prepared
{
	my $q = query({ int => [ '$1', '$1' ], text => ['$2'] }, 2, [ 'int', 'text' ]);
	$q .= ' LIMIT $1' if $q !~ /LIMIT|OFFSET|FETCH|UNION|EXCEPT|INTERSECT/ && chance(40);
	return "PREPARE p(int, text) AS $q;\nEXECUTE p(2, 'parameter');\nEXECUTE p(3, NULL);\nDEALLOCATE p";
}

sub statement
{
	($alias, $volatile) = (0, 0);
	for (1 .. 50)
	{
		$calls = 0;
		my $k = rnd(20);
		my $sql = $k < 10 ? top_query([ 'int', 'text', 'text' ]) : $k < 14 ? modification() : $k < 16 ? cursor() : $k < 17 ? loop() : $k < 19 ? prepared()
		  : pick('SELECT id, ' . call({ int => ['id'], text => ['body'] }, 2) . ' FROM ticket WHERE ' . bool_expr({ int => ['id'], text => ['body'] }, 1) . ' ORDER BY id ' . pick('', 'LIMIT 4 ') . pick('FOR UPDATE SKIP LOCKED', 'FOR SHARE', 'FOR NO KEY UPDATE'),
			'CREATE TABLE made AS ' . top_query([ 'int', 'text' ]) . '; SELECT * FROM made', 'COPY (' . top_query([ 'int', 'text' ]) . ') TO STDOUT',
			'SELECT walk(' . rnd(8) . ')', "SELECT generate_series(1, 2), " . call({ int => ['id'], text => ['body'] }, 1) . ' FROM ticket');
		return $sql if $calls > 0 && length($sql) < 2500;
	}
	return 'SELECT slm_generate(body, max_tokens => 2) FROM ticket';
}

# ---- running

# other hooks beside ours, where the server has them
my $library = `pg_config --pkglibdir`;
chomp $library;
my @beside = grep { -e "$library/$_.so" } qw(pg_stat_statements auto_explain);
my $node = PostgreSQL::Test::Cluster->new('batch_random');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . join(', ', 'slm_pg', @beside) . "'\nfsync = off\nmax_worker_processes = 8\nautovacuum = off\nrestart_after_crash = on\nlog_min_messages = error\n"
	  . (@beside == 2 ? "auto_explain.log_level = debug1\n" : '') . "statement_timeout = '30s'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION slm_pg');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements') if @beside == 2;
$node->safe_psql('postgres', "SELECT slm_load_model('tiny', '$tiny'); SELECT slm_grant_model('tiny', 'public')");
$node->safe_psql('postgres', "ALTER DATABASE postgres SET slm.$_ = 'tiny'") for qw(generate_model classify_model embed_model);
$node->safe_psql('postgres', do { local $/; <DATA> });

my $clean = "SELECT setval('numbers', 1); SELECT setseed(0.25);";
my $effects = "SELECT 'ticket', * FROM ticket ORDER BY id; SELECT 'answers', * FROM answers ORDER BY id, answer; SELECT 'part', * FROM part ORDER BY id, body; SELECT 'log', * FROM log ORDER BY n, what; SELECT 'parent', tableoid::regclass, * FROM parent ORDER BY id, body;";
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;';
# off must be first: what the others are compared with
my @ways = ([ 'off', 'SET slm.enable_batch = off;' ], map { [ "batch $_", "SET slm.enable_batch = on; SET slm.batch_size = $_;" ] } 1, 7, 64);

sub session { my $s = SlmTest::Session->new($node); $s->query("\\set SHOW_CONTEXT never\n\\set VERBOSITY terse\nSET client_min_messages = error"); return $s; }
my $session = session();

# What a statement gives: rows, error, effects.
sub run_way
{
	my ($settings, $sql, $sort) = @_;
	my ($rows, $error, $after);
	my $ok = eval {
		$session->query("RESET ALL; SET client_min_messages = error; $settings $clean");
		$session->send("BEGIN;\n$sql");
		($rows, $error) = $session->wait;
		$after = $error eq '' ? $session->query($effects) : '';
		$session->query('ROLLBACK; DEALLOCATE ALL; CLOSE ALL');
		1;
	};
	if (!$ok)
	{
		eval { $session->quit };
		$node->poll_query_until('postgres', 'SELECT true');
		$session = session();
		return 'the server is gone';
	}
	s/\A\n+|\n+\z//g for $rows, $error, $after; # what the session before has left
	$rows = join("\n", sort(split /\n/, $rows)) if $sort;
	return "$rows\n$error\n$after";
}

my %settings = (
	plain => '', 'hash' => 'SET enable_mergejoin = off; SET enable_nestloop = off;', merge => 'SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_hashagg = off;',
	nest => 'SET enable_hashjoin = off; SET enable_mergejoin = off;', index => 'SET enable_seqscan = off; SET enable_sort = off;', generic => "SET plan_cache_mode = force_generic_plan;",
	partition => 'SET enable_partitionwise_join = on; SET enable_partitionwise_aggregate = on;', jit => 'SET jit_above_cost = 0; SET jit_inline_above_cost = -1; SET jit_optimize_above_cost = -1;',
	small => "SET work_mem = '64kB';", explain => 'SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_verbose = on; SET auto_explain.log_nested_statements = on;', user => 'SET ROLE reader;');
my ($run, $different, $failing, $batched) = (0, 0, 0, 0);
note("seed $seed, $count statements");
for my $n ($first .. $first + $count - 1)
{
	$state = $seed * 100003 + $n * 7919;
	rnd(2) for 1 .. 5;
	my $sql = statement();
	my $kind = $n % 40 == 0 ? 'jit' : pick(grep { $_ ne 'jit' } sort keys %settings); # compiling takes long
	my $set = $settings{$kind};
	my $expected = run_way("$set $ways[0][1]", $sql);
	$failing++ if $expected =~ /^ERROR/m;
	my $wrong = '';
	for my $way (@ways[ 1 .. $#ways ])
	{
		my $got = run_way("$set $way->[1]", $sql);
		$wrong .= "-- $way->[0], $kind:\n$got\n" if $got ne $expected && $wrong eq '';
	}
	# in workers the order of rows, and which of several errors comes first, are open
	if ($wrong eq '' && !$volatile && $kind ne 'jit' && $sql !~ /LIMIT|FETCH|OFFSET|LOOP|string_agg|array_agg|TABLESAMPLE|OVER|DISTINCT ON|walk/)
	{
		my $want = run_way("$set $ways[0][1]", $sql, 1);
		my $got = run_way("$set $parallel $ways[3][1]", $sql, 1);
		s/ERROR:.*/ERROR/s for $want, $got;
		# subqueries that are computed once are computed before workers start, in the plain way too
		($want = run_way("$set $parallel $ways[0][1]", $sql, 1)) =~ s/ERROR:.*/ERROR/s if $got ne $want;
		$wrong .= "-- parallel, $kind:\n$got\n" if $got ne $want;
	}
	if ($sql =~ /^(SELECT|WITH|UPDATE|DELETE|INSERT|MERGE)/ && $sql !~ /;/)
	{
		my $plan = run_way("$set $ways[3][1]", 'EXPLAIN (' . pick('', 'ANALYZE, ') . 'VERBOSE, FORMAT ' . pick('JSON', 'TEXT', 'YAML', 'XML') . ") $sql");
		$batched++ if $plan =~ /SLM Batch/;
		$wrong .= "-- EXPLAIN:\n$plan\n" if $plan =~ /ERROR|is gone/ && $expected !~ /ERROR/;
	}
	$run++;
	next if $wrong eq '';
	$different++;
	diag("statement $n of seed $seed, $kind:\n$sql;\n-- plain:\n$expected\n$wrong") if $different <= 10;
	last if $different >= 30;
}
note("$run statements, $failing of them fail, $batched of the explained ones use SLM Batch");
is($different, 0, "$run statements give the same with batches as without");
cmp_ok($batched, '>', $run / 20, 'many of them use batches');
cmp_ok($failing, '<', $run * 0.7, 'not too many fail');
SKIP:
{
	skip('the server has no pg_stat_statements or auto_explain', 1) if @beside < 2;
	is($session->query('SELECT count(*) FROM pg_stat_statements') > 10, 1, 'pg_stat_statements has seen them');
}
$session->quit;
$node->stop;
done_testing();

__DATA__
CREATE TYPE mood AS ENUM ('happy', 'angry', 'neutral');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN short_text AS text CHECK (length(VALUE) < 60);
CREATE SEQUENCE numbers;
CREATE TABLE log (n int, what text);
CREATE TABLE ticket (id int PRIMARY KEY, team int, body text, note text, kind mood);
INSERT INTO ticket SELECT i, i % 4, CASE WHEN i % 6 = 4 THEN NULL WHEN i = 9 THEN '' WHEN i = 13 THEN 'über straße 🚲 naïve' ELSE 'ticket ' || (i % 7) || ' about ' ||
    (ARRAY['a refund', 'a late parcel', 'a lost card', 'an invoice'])[i % 4 + 1] END, CASE WHEN i % 5 = 0 THEN 'note ' || i END, 'angry' FROM generate_series(1, 24) i;
CREATE TABLE team (id int PRIMARY KEY, name text, hint text);
INSERT INTO team VALUES (0, 'billing', 'money'), (1, 'delivery', 'parcels'), (2, 'other', NULL), (7, 'one', 'x');
CREATE TABLE part (id int, grp int DEFAULT 1, body text) PARTITION BY LIST (grp);
CREATE TABLE part_0 PARTITION OF part FOR VALUES IN (0);
CREATE TABLE part_1 (body text, dropped int, id int, grp int DEFAULT 1);
ALTER TABLE part_1 DROP COLUMN dropped;
ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES IN (1);
CREATE TABLE part_d PARTITION OF part DEFAULT;
INSERT INTO part SELECT i, i % 4, 'part ' || i % 5 FROM generate_series(1, 14) i;
CREATE INDEX ON part (id);
CREATE TABLE parent (id int, body text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent SELECT i, 'parent ' || i FROM generate_series(1, 5) i;
INSERT INTO child SELECT i, 'child ' || i, i FROM generate_series(4, 11) i;
CREATE TABLE changed (gone int, id int, body text, also_gone text, tag text, len int GENERATED ALWAYS AS (length(body)) STORED);
ALTER TABLE changed DROP COLUMN gone, DROP COLUMN also_gone;
INSERT INTO changed (id, body, tag) SELECT i, repeat('changed ', i % 3) || i, 'tag ' || i % 2 FROM generate_series(1, 12) i;
CREATE INDEX ON changed (id) INCLUDE (tag);
CREATE TABLE wide (id int, w1 int, w2 int, w3 int, w4 text, w5 int, w6 int, w7 int, w8 int, w9 int, w10 int, w11 int, w12 int, w13 text, w14 int, w15 int, w16 int, w17 int, w18 int, w19 int,
    body text, dom short_text, comp pair);
INSERT INTO wide (id, w3, w19, body, dom, comp, w4, w13) SELECT i, i % 2, 20 - i, CASE i WHEN 17 THEN repeat('long words ', 450) ELSE 'wide ' || i || repeat(' body', i % 9) END, 'dom ' || i, ROW(i, 'b' || i)::pair,
    repeat('x', 3000), repeat('y' || i, 900) FROM generate_series(1, 18) i;
CREATE TABLE answers (id int, answer text);
CREATE TABLE ruled (id int, body text);
CREATE RULE twice AS ON INSERT TO ruled DO ALSO INSERT INTO answers VALUES (NEW.id, 'ruled ' || slm_classify(NEW.body, ARRAY['a', 'b']));
CREATE TABLE triggered (id int, body text);
CREATE TABLE guarded (id int, owner_no int, body text);
INSERT INTO guarded SELECT i, i % 3, 'guarded ' || i FROM generate_series(1, 10) i;

CREATE FUNCTION note_prefix(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF t LIKE '%lost card%' THEN RAISE EXCEPTION 'prefix of %', t; END IF; RETURN 'N ' || t; END $$;
CREATE FUNCTION set_prefix(t text) RETURNS text LANGUAGE plpgsql STABLE SET work_mem = '1MB' AS $$ BEGIN PERFORM 1 / (length(t) - 9); RETURN current_setting('work_mem') || t; END $$;
CREATE FUNCTION definer_prefix(t text) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN PERFORM count(*) / (length(t) - 10) FROM team; RETURN 'D ' || t; END $$;
CREATE FUNCTION sql_prefix(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'S ' || max(name) || t FROM team WHERE id < length(t) $$;
CREATE FUNCTION fails_at(n int, bad int) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN IF n = bad THEN RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'number ' || n; END IF; RETURN n; END $$;
CREATE FUNCTION counted(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO log VALUES (n, 'counted'); RETURN (SELECT count(*) FROM log); END $$;
CREATE FUNCTION bodies_of(t int) RETURNS TABLE (i int, x text) LANGUAGE sql STABLE AS $$ SELECT id, body FROM ticket WHERE team = t ORDER BY id LIMIT 3 $$;
CREATE FUNCTION walk(n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE c SCROLL CURSOR FOR SELECT id, slm_generate(body, max_tokens => 2) AS a FROM ticket ORDER BY id; r record; result text := '';
BEGIN
    OPEN c;
    FOR i IN 1 .. n LOOP FETCH c INTO r; result := result || coalesce(r.a, '-'); END LOOP;
    FETCH PRIOR FROM c INTO r; result := result || coalesce(r.a, '-') || coalesce(r.id, 0);
    MOVE FORWARD 2 FROM c; FETCH c INTO r;
    RETURN result || coalesce(r.id, 0) || (SELECT string_agg(slm_classify(x, ARRAY['a', 'b']), '') FROM bodies_of(n));
END $$;
CREATE FUNCTION on_triggered() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := slm_generate(NEW.body, max_tokens => 2); INSERT INTO log VALUES (NEW.id, NEW.body); RETURN NEW; END $$;
CREATE TRIGGER before_row BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION on_triggered();
CREATE VIEW barrier WITH (security_barrier) AS SELECT id, body FROM ticket WHERE slm_classify(body, ARRAY['billing', 'delivery', 'other']) <> 'other';
CREATE VIEW labelled AS SELECT id, body, slm_classify(body, ARRAY['billing', 'delivery']) AS label FROM ticket WHERE team < 3;
CREATE ROLE reader;
GRANT ALL ON ALL TABLES IN SCHEMA public TO reader;
GRANT ALL ON SEQUENCE numbers TO reader;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON guarded USING (slm_classify(body, ARRAY['u', 'v']) <> 'w' AND owner_no < 2);
ANALYZE;
