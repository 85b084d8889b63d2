// pgx 5: lists, vectors in binary, a batch, a cursor, cancel by context, errors with their hint.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var passed, failed int

func check(ok bool, what string, shown ...any) {
	if ok {
		passed++
		return
	}
	failed++
	fmt.Println("FAILED:", what, shown)
}

func labels(ctx context.Context, c *pgx.Conn) {
	want := []string{"billing", "delivery", "praise"}
	var got, enum string
	err := c.QueryRow(ctx, "SELECT slm_classify($1, $2)", "I was charged twice", want).Scan(&got)
	check(err == nil && got == "billing", "labels as a list", got, err)
	descriptions := map[string]string{"billing": "charges", "delivery": "parcels"}
	err = c.QueryRow(ctx, "SELECT slm_classify($1, descriptions => $2)", "I was charged twice", descriptions).Scan(&got)
	check(err == nil && got == "billing", "descriptions as a map", got, err)
	err = c.QueryRow(ctx, "SELECT slm_classify_enum($1, NULL::topic)::text", "Where is my parcel?").Scan(&enum)
	check(err == nil && enum == "delivery", "an enum", enum, err)
	var several []string
	err = c.QueryRow(ctx, "SELECT slm_classify_multi($1, $2, threshold => 0)", "x", want).Scan(&several)
	check(err == nil && reflect.DeepEqual(several, want), "several labels", several, err)
	rows, err := c.Query(ctx, "SELECT slm_classify(body, $1) FROM tickets WHERE id < 4 ORDER BY id", want)
	check(err == nil, "a table", err)
	table, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(err == nil && reflect.DeepEqual(table, want), "its rows", table, err)
	var no int
	err = c.QueryRow(ctx, "SELECT document_no FROM slm_rerank($1, $2)", "a bill", []*string{&got, nil}).Scan(&no)
	check(err == nil && no == 1, "documents, one of them NULL", no, err)
}

func vectors(ctx context.Context, c *pgx.Conn) {
	var e []float32
	err := c.QueryRow(ctx, "SELECT slm_embed($1)", "a parcel").Scan(&e)
	var norm float64
	for _, x := range e {
		norm += float64(x) * float64(x)
	}
	check(err == nil && len(e) == 384 && math.Abs(norm-1) < 1e-5, "an embedding", len(e), norm, err)
	var same float64
	err = c.QueryRow(ctx, "SELECT slm_similarity($1::real[], $2::real[])", e, e).Scan(&same)
	check(err == nil && math.Abs(same-1) < 1e-6, "vectors as parameters", same, err)
	rows, err := c.Query(ctx, "SELECT * FROM slm_embed_many($1)", []string{"a", "b", "c"})
	check(err == nil, "many", err)
	many, err := pgx.CollectRows(rows, pgx.RowTo[[]float32])
	check(err == nil && len(many) == 3 && len(many[2]) == 384, "their rows", len(many), err)
}

func statements(ctx context.Context, c *pgx.Conn) {
	batch := &pgx.Batch{}
	for i := 1; i < 4; i++ {
		batch.Queue("SELECT slm_classify(body, $1) FROM tickets WHERE id = $2", []string{"billing", "delivery", "praise"}, i)
	}
	results := c.SendBatch(ctx, batch)
	var got []string
	for i := 0; i < 3; i++ {
		var label string
		err := results.QueryRow().Scan(&label)
		check(err == nil, "a pipeline", err)
		got = append(got, label)
	}
	check(results.Close() == nil && strings.Join(got, " ") == "billing delivery praise", "its answers", got)

	tx, err := c.Begin(ctx)
	check(err == nil, "a transaction", err)
	_, err = tx.Exec(ctx, "DECLARE pieces NO SCROLL CURSOR FOR SELECT slm_generate_stream('Count to fifty.', max_tokens => 24)")
	check(err == nil, "a cursor", err)
	begin := time.Now()
	var piece string
	check(tx.QueryRow(ctx, "FETCH 1 FROM pieces").Scan(&piece) == nil, "its first piece")
	first := time.Since(begin)
	_, err = tx.Exec(ctx, "FETCH ALL FROM pieces")
	check(err == nil && time.Since(begin) > first, "and the others", err)
	check(tx.Rollback(ctx) == nil, "the end of it")

	var pgErr *pgconn.PgError
	_, err = c.Exec(ctx, "SELECT slm_classify($1, $2)", "x", []string{})
	check(errors.As(err, &pgErr) && pgErr.Code == "22023" && strings.Contains(pgErr.Hint, "ARRAY['billing'"), "no labels", err)
}

// A row is there while the next ones are still being written.
func stream(ctx context.Context, c *pgx.Conn) {
	other, err := pgx.Connect(ctx, "")
	check(err == nil, "another connection", err)
	rows, err := c.Query(ctx, "SELECT slm_generate_stream($1, max_tokens => 200)", "Tell a very long story about a farm.")
	check(err == nil && rows.Next(), "a first piece", err)
	var busy, n int
	err = other.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
		WHERE state = 'active' AND query LIKE '%slm_generate_stream%' AND pid <> pg_backend_pid()`).Scan(&busy)
	check(err == nil && busy == 1, "the statement is under way behind its first row", busy, err)
	for n = 1; rows.Next(); n++ {
	}
	check(rows.Err() == nil && n > 50, "all pieces", n, rows.Err())
	check(other.Close(ctx) == nil, "its end")
}

func cancel(ctx context.Context, c *pgx.Conn) {
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	begin := time.Now()
	_, err := c.Exec(short, "SELECT slm_generate('Tell a very long story.', max_tokens => 4000, seed => n) FROM generate_series(1, 50) n")
	check(err != nil && time.Since(begin) < 10*time.Second, "a context that ends", time.Since(begin), err)
}

func main() {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, "")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	labels(ctx, c)
	vectors(ctx, c)
	statements(ctx, c)
	stream(ctx, c)
	cancel(ctx, c)
	fmt.Printf("pgx: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
