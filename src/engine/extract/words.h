/*
 * words.h: a text as words with places, and the groups of words that name things (words.c).
 */
#ifndef SLM_EXTRACT_WORDS_H
#define SLM_EXTRACT_WORDS_H

#include "engine/extract/extract.h"

#define SLM_WORD_BYTES 24

/* Groups of words that name things, one a bit. */
typedef uint64_t slm_groups;

typedef struct slm_word {
    size_t begin, end;
    uint64_t place;             /* grows by 1 a word, by more over the end of a sentence or line */
    char lower[SLM_WORD_BYTES]; /* its beginning in lower case, NUL-terminated */
    slm_groups groups;          /* slm_groups_of, once somebody has asked (slm_word_groups) */
    bool known;
    bool capital;  /* begins with a capital letter */
    bool digits;   /* has a digit */
    bool function; /* a word of grammar: the, und, avec */
} slm_word;

typedef struct slm_words {
    slm_word *list; /* [n] */
    size_t n;
} slm_words;

/* Bytes of the letter, digit or underscore at text[i], 0 when it is none. */
size_t slm_word_char(const char *text, size_t length, size_t i);

/* Letters that are written without spaces between words (U+3000 and above): a value may stand directly beside them. */
static inline bool slm_word_is_dense(const char *text, size_t length, size_t i)
{
    return i < length && (unsigned char) text[i] >= 0xE3;
}

/* Does a letter or digit at byte i go on with what stands before it? */
static inline bool slm_word_goes_on(const char *text, size_t length, size_t i)
{
    return slm_word_char(text, length, i) > 0 && !slm_word_is_dense(text, length, i);
}

/* Bytes of what stands at byte i and is no part of a word: a whole character. */
static inline size_t slm_other_char(const char *text, size_t length, size_t i)
{
    size_t n = 1;
    while (i + n < length && ((unsigned char) text[i + n] & 0xC0) == 0x80)
        n++;
    return n;
}

slm_status slm_words_find(const char *text, size_t length, const volatile int *stop, slm_words *out, slm_error *err);
void slm_words_free(slm_words *words);
/* The first word that ends behind byte `at`; n when there is none. */
size_t slm_words_at(const slm_words *words, size_t at);

/* ---- groups */

/* GROUP(id, what a word of it says of a field's kind, its stems in lower case): a stem is the beginning of a word, with "!" a whole one. */
#define SLM_GROUPS(GROUP)                                                                                                              \
    GROUP(ORDER, ID, "order bestell auftrag command pedid ordin encomend zamówien orden! ordenes")                                     \
    GROUP(BOUGHT, TEXT,                                                                                                                \
          "purchase bought buy! buying kauf gekauft erworben achat achet compr acquist kupi gekocht köp ordered bestellt "            \
          "commandé pedí pedi! ordinat picked")                                                                                        \
    GROUP(INVOICE, ID, "invoice rechnung factur fattur faktur bill! bills billing")                                                    \
    GROUP(CUSTOMER, TEXT,                                                                                                              \
          "customer client! clients kunde kundin cliente klient klant member mitglied user! account! konto! acheteur buyer")           \
    GROUP(TICKET, ID, "ticket case! incident vorgang vorfall issue! anfrage")                                                          \
    GROUP(TRACKING, ID, "tracking sendung shipment parcel paket suivi seguimiento spedizione paczk")                                   \
    GROUP(CONTRACT, ID, "contract vertrag contrat contrato policy police! polizza versicher")                                          \
    GROUP(ARTICLE, ID, "article! artikel sku item! articolo artículo modell model! serial serien")                                     \
    GROUP(REFERENCE, ID, "ref! reference referenz aktenzeichen référence referencia riferiment")                                       \
    GROUP(NUMBER, ID, "number! no! nr! nº! num! # id! ids! code! nummer numéro número numero identifier kennung zeichen kenn numer")   \
    GROUP(PHONE, PHONE, "phone telephone tel! telefon téléphone mobile handy móvil cell! cellphone call! called fax! reach! whatsapp") \
    GROUP(EMAIL, EMAIL, "email mail! mails! e-mail courriel correo")                                                                   \
    GROUP(IBAN, IBAN, "iban! bankverbindung")                                                                                          \
    GROUP(CARD, CARD, "card! kreditkarte carte! tarjeta carta!")                                                                       \
    GROUP(URL, URL, "url! link! links! website webseite site! web! homepage")                                                          \
    GROUP(IP, IP, "ip!")                                                                                                               \
    GROUP(AMOUNT, AMOUNT,                                                                                                              \
          "amount betrag summe montant importe importo valor! kwot belopp bedrag sum! price preis prix! precio prezzo preço "         \
          "cost kosten kostet coût coste costo cen! fee! fees! gebühr paid! pay! pays! payment bezahl gezahlt payé pagad pagat "    \
          "charged charge! abgebucht berechnet débité cobrad total gesamt euro! euros! dollars! spent refund erstatt")                 \
    GROUP(TOTAL, AMOUNT, "total gesamt grand! summe totale! insgesamt")                                                                \
    GROUP(DATE, DATE, "date! dates! dated datum fecha data! when! wann! quand! cuándo quando! day! tag! jour! día giorno")             \
    GROUP(BIRTH, DATE, "birth born! geboren geburt naissance né! née! nacid nacimient nascit nato! nata! nascid urodz")                \
    GROUP(DELIVERY, TEXT, "deliver liefer geliefert livr entreg consegn dostaw shipped arrive arriv angekommen")                       \
    GROUP(DUE, DATE, "due! fällig payable échéance vencim scadenza expires expiry deadline frist valid! until! bis!")                  \
    GROUP(SINCE, DATE, "since! seit! depuis desde! dal! from! ab!")                                                                    \
    GROUP(TIME, TIME, "time! uhrzeit uhr! heure hora! orario")                                                                         \
    GROUP(COUNT, NUMBER, "count! quantity qty! anzahl menge! quantité cantidad quantità many! pieces stück")                           \
    GROUP(AGE, NUMBER, "age! aged alter! âge edad età")                                                                                \
    GROUP(VAT, ID, "vat! ust! tva! iva! tax! steuer")

typedef enum slm_group {
#define GROUP(id, kind, stems) SLM_GROUP_##id,
    SLM_GROUPS(GROUP)
#undef GROUP
        SLM_N_GROUPS
} slm_group;

#define SLM_GROUP_BIT(id) ((slm_groups) 1 << SLM_GROUP_##id)

/* The groups that a word in lower case belongs to. */
slm_groups slm_groups_of(const char *lower);
/* Those of a word of a text, looked up once. */
static inline slm_groups slm_word_groups(slm_word *word)
{
    if (!word->known)
        word->groups = slm_groups_of(word->lower);
    word->known = true;
    return word->groups;
}
slm_extract_kind slm_group_kind(slm_group group);
/* Is it a word of grammar of one of the languages that are known? */
bool slm_word_is_function(const char *lower);
/* Does such a word announce a noun: the, my, un, eine? */
bool slm_word_is_article(const char *lower);

#endif
