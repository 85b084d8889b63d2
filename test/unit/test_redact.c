/*
 * Values that identify somebody: what is found, and what looks like it and is not.
 */
#include "slm_test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/redact/redact.h"

static slm_error err;

/* The text with {kind:value} around what is found must be `marked`. */
static void check(const char *marked)
{
    char text[1024], got[2048];
    size_t n_text = 0, n_got = 0, n, at = 0;
    slm_redact_span *spans;
    for (const char *p = marked; *p != '\0'; p++) {
        if (*p == '{')
            p = strchr(p, ':'); /* the kind's name has none */
        else if (*p != '}')
            text[n_text++] = *p;
    }
    text[n_text] = '\0';
    CHECK(slm_redact_find(text, n_text, ~0u, NULL, &spans, &n, &err) == SLM_OK, "%s", marked);
    for (size_t i = 0; i < n; i++) {
        n_got += (size_t) snprintf(got + n_got, sizeof got - n_got, "%.*s{%s:%.*s}", (int) (spans[i].begin - at), text + at,
                                   slm_redact_name(spans[i].kind), (int) (spans[i].end - spans[i].begin), text + spans[i].begin);
        at = spans[i].end;
    }
    snprintf(got + n_got, sizeof got - n_got, "%s", text + at);
    CHECK(strcmp(got, marked) == 0, "\n  got  %s\n  want %s", got, marked);
    free(spans);
}

static void found(void)
{
    check("Write to {email:anna.maria+shop@mail.example.co.uk}, please.");
    check("Mail: {email:jos\xC3\xA9@ex\xC3\xA4mple.de}; <{email:x_y@a-b.org}> mailto:{email:a@b.io}?subject=x");
    check("({email:o'neil@example.com}) '{email:a.b@example.com}'.");
    check("See {url:https://example.com/a_(b)?x=1&y=%20#z}. And ({url:http://example.org/path}), {url:www.example.net/x}!");
    check("{url:https://10.0.0.1:8080/login} is inside");
    check("Host {ip:192.168.0.1} and {ip:2001:db8::ff00:42:8329}, {ip:::1}.");
    check("IBAN {iban:DE89 3704 0044 0532 0130 00} und {iban:GB82WEST12345698765432}, {iban:fr14 2004 1010 0505 0001 3m02 606}.");
    check("{iban:NL91-ABNA-0417-1643-00}");
    check("Card {card:4111 1111 1111 1111}, {card:5500-0000-0000-0004}, {card:378282246310005} and {card:6011111111111117}.");
    check("SSN {national_id:078-05-1120}; DNI {national_id:12345678Z}; NIE {national_id:X1234567L}");
    check("CF {national_id:RSSMRA85T10A562S}, NIR {national_id:2 55 08 14 168 025 38}, NI {national_id:AB 12 34 56 C}");
    check("Steuer-ID {national_id:86 095 742 719}, PESEL {national_id:44051401359}, CPF {national_id:529.982.247-25}");
    check("Born on {birth_date:12 March 1980} in York. DOB: {birth_date:03/12/1980}. Geburtsdatum: {birth_date:31.12.1980}");
    check("Geboren am {birth_date:1. M\xC3\xA4rz 1975}, n\xC3\xA9"
          "e le {birth_date:1er ao\xC3\xBBt 1990}, nacido el {birth_date:3 de mayo de 1988}");
    check("nato il {birth_date:7 luglio 1969}; date of birth {birth_date:1980-12-31}; born {birth_date:December 31st, 1980}.");
    check("Call {phone:+49 30 1234567} or {phone:(555) 123-4567}, {phone:0151 23456789}, {phone:+33 1 23 45 67 89}.");
    check("Tel. {phone:01 23 45 67 89}, {phone:555-123-4567}, {phone:0049 (0)30 / 123 45 67}, {phone:+1-202-555-0143}, {phone:612 345 "
          "678}.");
    check("{phone:030/1234567} {email:a@b.de}");
}

static void not_found(void)
{
    check("Order 4711-0815 of 2026-11-26, 12:30:45, EUR 1,234.56, 3.5.1.2.9, item #12345678, 50 %.");
    check("a@b is no address, @name neither; user@ example.com; 300.1.2.3; 1.2.3");
    check("IBAN DE89 3704 0044 0532 0130 01 is wrong; 4111 1111 1111 1112 fails; 1234567890123456");
    check("The meeting is on 12 March 2026. Delivered 31.12.2025.");
    check("Version 10.2.11, build 20260101, 1000000 units, 12 345 678 people, 1 2 3 4 5 6 7 8 9");
    check("Ticket 123456789, invoice 2026-000123, tracking 00340434161094021501X, 1234-5678.");
    check("https:// and www. alone, http:// too; :: a::b::");
    check("It was born in mind.");
    check("");
}

static unsigned seed = 1;

static unsigned below(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return seed / 65536 % n;
}

static void digits(char *out, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (char) ('0' + below(10));
    out[n] = '\0';
}

/* A value of a kind that passes its checks, written in one of the ways that people write it. */
static void make_value(slm_redact_kind kind, char *out, size_t room)
{
    static const char *const names[] = {"anna", "j.smith", "li-wei", "o'neil", "m_rossi+news", "j\xC3\xBCrgen", "user1984"};
    static const char *const hosts[] = {"example.com", "mail.example.co.uk", "firma-x.de", "ex\xC3\xA4mple.fr", "a.b.example.org"};
    static const struct {
        const char *country;
        int n;
    } ibans[] = {{"DE", 22}, {"FR", 27}, {"ES", 24}, {"IT", 27}, {"GB", 22}, {"NL", 18}};
    static const char *const dates[] = {"%02u.%02u.19%02u", "%u/%u/19%02u", "%u-%02u-19%02u"};
    char d[40];
    digits(d, 36);
    if (kind == SLM_REDACT_EMAIL) {
        snprintf(out, room, "%s@%s", names[below(7)], hosts[below(5)]);
    } else if (kind == SLM_REDACT_URL) {
        snprintf(out, room, "%s%s/%.3s?q=%.2s", below(2) ? "https://" : "www.", hosts[below(5)], d, d + 3);
    } else if (kind == SLM_REDACT_IP) {
        snprintf(out, room, below(3) ? "%u.%u.%u.%u" : "2001:db8:%x::%x:%x:%x", below(256), below(256), below(256), below(256));
    } else if (kind == SLM_REDACT_IBAN) {
        unsigned which = below(6);
        const char *c = ibans[which].country;
        int n = ibans[which].n, rest = 0, at = 0;
        char plain[40];
        for (int i = 0; i < n - 4; i++)
            rest = (rest * 10 + d[i] - '0') % 97;
        rest = (rest * 100 + c[0] - 'A' + 10) % 97;
        rest = (rest * 100 + c[1] - 'A' + 10) % 97;
        snprintf(plain, sizeof plain, "%s%02d%.*s", c, 98 - rest * 100 % 97, n - 4, d);
        bool groups = below(2);
        for (int i = 0; i < n; i++) {
            if (groups && i > 0 && i % 4 == 0)
                out[at++] = ' ';
            out[at++] = plain[i];
        }
        out[at] = '\0';
    } else if (kind == SLM_REDACT_CARD) {
        int sum = 0;
        d[0] = below(2) ? '4' : '5';
        d[1] = d[0] == '5' ? '3' : d[1];
        for (int i = 0; i < 15; i++) {
            int v = d[i] - '0';
            sum += i % 2 == 1 ? v : v < 5 ? 2 * v : 2 * v - 9;
        }
        d[15] = (char) ('0' + (10 - sum % 10) % 10);
        const char *s = below(2) ? " " : below(2) ? "-" : "";
        snprintf(out, room, "%.4s%s%.4s%s%.4s%s%.4s", d, s, d + 4, s, d + 8, s, d + 12);
    } else if (kind == SLM_REDACT_BIRTH_DATE) {
        unsigned form = below(3);
        if (form == 2)
            snprintf(out, room, "19%02u-%02u-%02u", 30 + below(70), 1 + below(12), 1 + below(28));
        else
            snprintf(out, room, dates[form], 1 + below(28), 1 + below(12), 30 + below(70));
    } else {
        static const char *const forms[] = {"+49 %.3s %.7s",    "+33 1 %.2s %.2s", "0%.3s/%.7s",
                                            "+1-202-%.3s-0143", "(555) %.3s-4567", "+34 6%.2s %.6s"};
        unsigned form = below(6);
        d[0] = '3'; /* no trunk prefix twice */
        if (form == 1)
            snprintf(out, room, "+33 1 %.2s %.2s %.2s %.2s", d, d + 2, d + 4, d + 6);
        else
            snprintf(out, room, forms[form], d, d + 3);
    }
}

/* 500 messages in five languages, filled with such values between what only looks like them: all are found, and nothing else. */
static void messages(void)
{
    static const char *const templates[] = {
        "Hello, my order 4711-0815 of 12.03.2026 has not come. Please write to $E or call $P. Regards, Ann",
        "I paid 1,234.56 EUR with card $C on 2026-11-02, see $U. Date of birth: $D. My account: $I. Host $H refused.",
        "Guten Tag, bitte erstatten Sie den Betrag von 59,90 EUR auf $I. Geboren am $D, Telefon $P, Mail $E. Kundennummer 20260815.",
        "Die Karte $C wurde zweimal belastet (Rechnung 2026-000123 vom 3. Mai). Siehe $U; mein Rechner ist $H.",
        "Bonjour, je suis n\xC3\xA9 le $D et mon IBAN est $I. \xC3\x89"
        "crivez \xC3\xA0 $E ou appelez le $P avant le 12 mars. Commande 98-7654.",
        "La carte $C a \xC3\xA9t\xC3\xA9 d\xC3\xA9"
        "bit\xC3\xA9"
        "e de 45,00 EUR : voir $U. Adresse $H, merci.",
        "Hola, nacido el $D, mi cuenta es $I y mi correo $E. Pedido 123-45 del 4 de mayo, 3 unidades. Tel\xC3\xA9"
        "fono $P.",
        "Cobraron dos veces en la tarjeta $C, v\xC3\xA9"
        "ase $U, desde $H. Gracias.",
        "Buongiorno, nato il $D, IBAN $I, posta $E, telefono $P. Ordine n. 2026/11/0042 del 7 luglio.",
        "La carta $C non funziona su $U (errore 404.12, versione 10.2.11.3.7) dal computer $H."};
    static const struct {
        char slot;
        slm_redact_kind kind;
    } slots[] = {{'E', SLM_REDACT_EMAIL}, {'U', SLM_REDACT_URL},        {'I', SLM_REDACT_IBAN}, {'C', SLM_REDACT_CARD},
                 {'H', SLM_REDACT_IP},    {'D', SLM_REDACT_BIRTH_DATE}, {'P', SLM_REDACT_PHONE}};
    for (int i = 0; i < 500; i++) {
        char marked[1024], value[128];
        size_t n = 0;
        for (const char *p = templates[i % 10]; *p != '\0'; p++) {
            size_t k = 0;
            if (*p != '$') {
                marked[n++] = *p;
                continue;
            }
            for (p++; slots[k].slot != *p;)
                k++;
            make_value(slots[k].kind, value, sizeof value);
            n += (size_t) snprintf(marked + n, sizeof marked - n, "{%s:%s}", slm_redact_name(slots[k].kind), value);
        }
        marked[n] = '\0';
        check(marked);
    }
}

/* Any bytes of UTF-8: spans are in order, apart, inside; and whole spans found again alone where nothing before them matters. */
static void random_texts(void)
{
    static const char *const parts[] = {"+49 30 12", "34567",    "@",         "example",   ".com",    "DE89 3704 0044 0532 0130 00",
                                        " ",         "-",        "4111 1111", "1111 1111", "192.168", ".0.1",
                                        "::",        "\xC3\xA9", "born ",     "12.",       "03.1980", "https://",
                                        "(",         ")",        "0",         "a",         "\n",      "12345678Z"};
    for (int i = 0; i < 20000; i++) {
        char text[256];
        size_t length = 0, n, last = 0;
        slm_redact_span *spans;
        for (int k = 0; k < 8; k++) {
            const char *part = parts[below(sizeof parts / sizeof *parts)];
            memcpy(text + length, part, strlen(part));
            length += strlen(part);
        }
        char *exact = malloc(length + 1); /* so that a sanitizer sees a read behind the end */
        memcpy(exact, text, length);
        exact[length] = '\0';
        CHECK(slm_redact_find(exact, length, ~0u, NULL, &spans, &n, &err) == SLM_OK, "random");
        for (size_t s = 0; s < n; s++) {
            CHECK(spans[s].begin >= last && spans[s].end > spans[s].begin && spans[s].end <= length, "random: span %zu", s);
            last = spans[s].end;
        }
        free(spans);
        free(exact);
    }
}

int main(void)
{
    volatile int stop = 1;
    char *longer = malloc(100000);
    slm_redact_span *spans;
    size_t n;
    found();
    not_found();
    messages();
    random_texts();
    memset(longer, 'a', 100000);
    CHECK(slm_redact_find(longer, 100000, ~0u, &stop, &spans, &n, &err) == SLM_CANCELLED, "the stop flag is looked at");
    free(longer);
    CHECK(slm_redact_of_name("iban", 4) == SLM_REDACT_IBAN && slm_redact_of_name("ibans", 5) == SLM_REDACT_N_KINDS, "names");
    TEST_MAIN_END("test_redact");
}
