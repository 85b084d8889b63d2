/*
 * Values in texts: which candidate a field gets, in which normal form, and what is none.
 */
#include "slm_test.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/extract/extract.h"
#include "engine/extract/summary.h"

static slm_error err;

/* The best value of a field in a text; "" when there is none. */
static const char *best(const char *text, const char *name, const char *question, bool month_first)
{
    static char value[256];
    slm_extract_field field = {.name = name, .question = question, .kind = slm_extract_guess(name, question)};
    slm_extract_options options = {.month_first = month_first};
    slm_extract_candidate *list;
    size_t n;

    size_t length = strlen(text);
    char *exact = malloc(length > 0 ? length : 1); /* so that a sanitizer sees a read behind the end */

    value[0] = '\0';
    memcpy(exact, text, length);
    CHECK(slm_extract_find(exact, length, &field, &options, &list, &n, &err) == SLM_OK, "%s in %s", name, text);
    for (size_t i = 0; i < n; i++)
        CHECK(list[i].begin < list[i].end && list[i].end <= strlen(text) && list[i].score >= 0 && list[i].score <= 1.001f, "%s", text);
    if (n > 0 && list[0].score >= 0.25f) {
        if (list[0].normal[0] != '\0')
            snprintf(value, sizeof value, "%s", list[0].normal);
        else
            snprintf(value, sizeof value, "%.*s", (int) (list[0].end - list[0].begin), text + list[0].begin);
    }
    free(list);
    free(exact);
    return value;
}

static void check(const char *text, const char *name, const char *want)
{
    const char *got = best(text, name, NULL, false);
    CHECK(strcmp(got, want) == 0, "%s in \"%s\": got \"%s\", want \"%s\"", name, text, got, want);
}

/* What is known to be meant needs no words around it. */
static void meant(void)
{
    static const struct {
        const char *text, *name;
        slm_extract_kind kind;
        const char *otherwise; /* "" where words must speak for it */
        const char *value;
    } cases[] = {{"45", "paid", SLM_EXTRACT_AMOUNT, "", "45"},
                 {"A-4711", "order", SLM_EXTRACT_ID, "", "A-4711"},
                 {"7", "chairs", SLM_EXTRACT_INTEGER, "", "7"},
                 {"2 May 2026", "born", SLM_EXTRACT_DATE, "", "2026-05-02"},
                 {"2 May 2026", "day", SLM_EXTRACT_DATE, "2026-05-02", "2026-05-02"},
                 {"May", "day", SLM_EXTRACT_DATE, "", ""}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int known = 0; known < 2; known++) {
            slm_extract_field field = {.name = cases[i].name, .kind = cases[i].kind};
            slm_extract_options options = {.meant = known};
            const char *want = known ? cases[i].value : cases[i].otherwise;
            slm_extract_candidate *list = NULL;
            char got[SLM_EXTRACT_NORMAL] = "";
            size_t n = 0;

            CHECK(slm_extract_find(cases[i].text, strlen(cases[i].text), &field, &options, &list, &n, &err) == SLM_OK, "%s", cases[i].text);
            if (n > 0)
                snprintf(got, sizeof got, "%s", list[0].normal[0] != '\0' ? list[0].normal : cases[i].text);
            CHECK(strcmp(got, want) == 0, "%s in \"%s\", meant %d: got \"%s\", want \"%s\"", field.name, cases[i].text, known, got, want);
            CHECK(!known || n == 0 || list[0].score == 1, "%s", cases[i].text);
            free(list);
        }
    CHECK(slm_extract_month_first("on 04/25/2026", 13, false), "what the text tells");
    CHECK(!slm_extract_month_first("on 25/04/2026", 13, true), "what the text tells");
    CHECK(slm_extract_month_first("4/5/2026", 8, true) && !slm_extract_month_first("4/5/2026", 8, false), "what the caller says");
}

static void identifiers(void)
{
    check("My order number is 398-6320.", "order", "398-6320");
    check("Reference: order #SO943326. Your agent mentioned ticket 15404.", "order_number", "SO943326");
    check("Your agent mentioned ticket 15404. You can reach me at 0477664004.", "order", "");
    check("Your agent mentioned ticket 15404.", "ticket", "15404");
    check("My customer number is 88123, the order is 4711.", "orderNumber", "4711");
    check("My customer number is 88123, the order is 4711.", "customer_id", "88123");
    check("I ordered 1000 screws for 12.50 EUR on 2026-05-02.", "order", "");
    check("The tracking number is RX-20931.", "tracking number", "RX-20931");
    check("The order id on my invoice reads D-87741.", "order", "D-87741");
    check("You will find it under 6889205, that is my order.", "order", "6889205");
    check("Ihre Bestellnummer: A-4711, Kundennummer 99.", "order number", "A-4711");
    check("ma commande n\xC2\xB0 FR-20391 n'est pas arriv\xC3\xA9"
          "e. Facture 2026/1182.",
          "order_number", "FR-20391");
    check("ma commande n\xC2\xB0 FR-20391 n'est pas arriv\xC3\xA9"
          "e. Facture 2026/1182.",
          "invoice no", "2026/1182");
    check("the id is 550e8400-E29B-41d4-a716-446655440000.", "id", "550e8400-E29B-41d4-a716-446655440000");
}

static void amounts(void)
{
    check("I paid $1,479.72.", "amount", "1479.72");
    check("It cost 1.234,50 \xE2\x82\xAC.", "amount", "1234.50");
    check("Total EUR 99,90", "price", "99.90");
    check("It was 1 234,56 z\xC5\x82 and 1'234.50 CHF", "amount", "1234.56");
    check("The total was \xC2\xA3"
          "322",
          "amount", "322");
    check("The price is 1.299 EUR", "amount", "1299");
    check("nur 99,- Euro", "Betrag", "99");
    check("The total was 250.", "total", "250");
    check("I called you 2 times about order 4711.", "amount", "");
    check("\xE5\x90\x88\xE8\xA8\x88"
          "12,800\xE5\x86\x86",
          "amount", "12800"); /* yen */
    check("Net 1,200.00 EUR\nVAT 228.00 EUR\nTotal 1,428.00 EUR", "total", "1428.00");
}

static void dates(void)
{
    check("I bought it on 31 Oct 2026.", "date", "2026-10-31");
    check("Since October 31st, 2026 I own it", "date", "2026-10-31");
    check("am 3. M\xC3\xA4rz 2026", "date", "2026-03-03");
    check("le 1er ao\xC3\xBBt 2025", "date", "2025-08-01");
    check("el 3 de octubre de 2025", "fecha", "2025-10-03");
    check("24.03.2025", "date", "2025-03-24");
    check("2026/05/02", "date", "2026-05-02");
    check("2026\xE5\xB9\xB4"
          "5\xE6\x9C\x88"
          "2\xE6\x97\xA5",
          "date", "2026-05-02");
    check("30.02.2025, 31/31/2026, 2026-13-01", "date", "");
    check("In May 2026 I may 2 go; version 1.2.3", "date", "");
    check("born on 4 July 1988, joined on 2020-01-15", "birth_date", "1988-07-04");
    check("joined on 2020-01-15", "birth_date", "");
    check("Date: 2026-03-01\nDue date: 2026-03-31", "due_date", "2026-03-31");
    CHECK(strcmp(best("on 03/04/2026", "date", NULL, false), "2026-04-03") == 0, "the day first");
    CHECK(strcmp(best("on 03/04/2026", "date", NULL, true), "2026-03-04") == 0, "the month first");
    CHECK(strcmp(best("on 03/04/2026 and 12/25/2025", "date", NULL, false), "2026-03-04") == 0, "the text says it");
    CHECK(strcmp(best("on 03/04/2026 and 25/12/2025", "date", NULL, true), "2026-04-03") == 0, "the text says it");
    check("we meet at 3:30 pm", "time", "15:30:00");
}

static void others(void)
{
    check("IBAN DE89 3704 0044 0532 0130 00.", "iban", "DE89370400440532013000");
    check("IBAN DE89 3704 0044 0532 0130 01.", "iban", "");
    check("call +1 (202) 555-0143 or mail jo@example.com", "phone", "+12025550143");
    check("call +1 (202) 555-0143 or mail jo@example.com", "email", "jo@example.com");
    check("She weighs 62.5 kg and wants 3 chairs.", "number of chairs", "3");
    check("Contact us about the red bike, product: city bike.", "product", "city bike");
    check("", "order", "");
    CHECK(strcmp(best("It was 12.50 EUR, order 77-1.", "x", "How much was paid?", false), "12.50") == 0, "a question");
}

/* The sentences of a text, with | between them. */
static void check_sentences(const char *text, const char *want)
{
    char got[512] = "";
    size_t n = 0, length = strlen(text);
    slm_sentence *list = NULL;
    char *exact = malloc(length > 0 ? length : 1);

    memcpy(exact, text, length);
    CHECK(slm_sentences_find(exact, length, NULL, &list, &n, &err) == SLM_OK, "%s", text);
    for (size_t i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i == 0 ? "" : "|", (int) (list[i].end - list[i].begin),
                 exact + list[i].begin);
    CHECK(strcmp(got, want) == 0, "got \"%s\", want \"%s\"", got, want);
    free(list);
    free(exact);
}

static void sentences(void)
{
    check_sentences("I paid 9.90 extra. It took six days!", "I paid 9.90 extra.|It took six days!");
    check_sentences("Send it to www.example.org, e.g. today. Thanks.", "Send it to www.example.org, e.g. today.|Thanks.");
    check_sentences("She said \"wait.\" Then 'go.' Now", "She said \"wait.\"|Then 'go.'|Now");
    check_sentences("Pouvez-vous v\xC3\xA9rifier ? Merci !", "Pouvez-vous v\xC3\xA9rifier ?|Merci !");
    check_sentences("He called it \xE2\x80\x9Cgood.\xE2\x80\x9D She left", "He called it \xE2\x80\x9Cgood.\xE2\x80\x9D|She left");
    check_sentences("Is it 5 ?", "Is it 5 ?");
    check_sentences("", "");
}

/* Long hostile texts take time in proportion to their length. */
static void bounded(void)
{
    static const char *const parts[] = {"1",     "a.",     "1,", "1 ", "May ",         "$",    "-1", "order 1 ",
                                        "1234-", "the a ", "A ", "#",  "\xE2\x82\xAC", "2026-"};
    static const char *const names[] = {"order", "amount", "date", "product", "number of x", "time", "iban"};
    char *text = malloc(60001);
    clock_t begin = clock();
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        size_t n = strlen(parts[p]), length = 0;
        while (length + n <= 60000)
            memcpy(text + length, parts[p], n), length += n;
        text[length] = '\0';
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            (void) best(text, names[i], NULL, false);
    }
    free(text);
    CHECK((clock() - begin) / CLOCKS_PER_SEC < 60, "it took %ld s", (long) ((clock() - begin) / CLOCKS_PER_SEC));
}

int main(void)
{
    identifiers();
    meant();
    amounts();
    dates();
    others();
    sentences();
    bounded();
    TEST_MAIN_END("test_extract");
}
