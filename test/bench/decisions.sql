-- What slm_filter is worth: conditions in words against the intents of Banking77 (banking77_test.csv in $SLM_TEST_DATA), ten texts that each
-- condition fits and ten of other intents; balanced accuracy, and that of the answers that are not NULL with their share.  The borders of
-- src/pg/functions/asking.c were fitted on the conditions of part "fit"; those of part "test" were written afterwards.
-- psql variables: test_file; models loaded as smollm2 and minilm.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = error;
CREATE TEMP TABLE banking (text text, category text);
\copy banking FROM PROGRAM 'cat "$SLM_TEST_DATA/banking77_test.csv"' (FORMAT csv, HEADER)
CREATE TEMP TABLE condition (part text, words text, intents text[]);
INSERT INTO condition VALUES
    ('fit', 'asks about a card that was not delivered', '{card_arrival,card_delivery_estimate}'),
    ('fit', 'reports a lost or stolen card', '{lost_or_stolen_card}'),
    ('fit', 'wants a refund', '{request_refund,Refund_not_showing_up,reverted_card_payment?}'),
    ('fit', 'complains about a fee', '{card_payment_fee_charged,cash_withdrawal_charge,transfer_fee_charged,extra_charge_on_statement,top_up_by_card_charge,top_up_by_bank_transfer_charge,exchange_charge}'),
    ('fit', 'asks about an exchange rate', '{exchange_rate,card_payment_wrong_exchange_rate,wrong_exchange_rate_for_cash_withdrawal}'),
    ('fit', 'wants to change or unblock a PIN', '{change_pin,pin_blocked,get_physical_card}'),
    ('fit', 'asks how to prove who they are', '{verify_my_identity,unable_to_verify_identity,why_verify_identity}'),
    ('fit', 'wants to close the account', '{terminate_account}'),
    ('fit', 'could not withdraw cash', '{declined_cash_withdrawal,pending_cash_withdrawal}'),
    ('fit', 'a transfer did not arrive', '{transfer_not_received_by_recipient,balance_not_updated_after_bank_transfer,pending_transfer}'),
    ('fit', 'a payment was declined', '{declined_card_payment}'),
    ('fit', 'asks whether children can have an account', '{age_limit}'),
    ('fit', 'a top-up failed', '{top_up_failed,top_up_reverted,pending_top_up}'),
    ('fit', 'asks about Apple Pay or Google Pay', '{apple_pay_or_google_pay}'),
    ('fit', 'was charged twice', '{transaction_charged_twice}'),
    ('fit', 'forgot the password or passcode', '{passcode_forgotten}'),
    ('test', 'the phone was lost or stolen', '{lost_or_stolen_phone}'),
    ('test', 'somebody else used the card', '{compromised_card}'),
    ('test', 'wants a second card for the family', '{getting_spare_card}'),
    ('test', 'the card does not work', '{card_not_working,contactless_not_working,virtual_card_not_working}'),
    ('test', 'wants to change name or address', '{edit_personal_details}'),
    ('test', 'asks which countries are supported', '{country_support}'),
    ('test', 'wants to cancel a transfer', '{cancel_transfer}'),
    ('test', 'does not recognize a payment', '{card_payment_not_recognised,direct_debit_payment_not_recognised,cash_withdrawal_not_recognised}'),
    ('test', 'the card is about to expire', '{card_about_to_expire}'),
    ('test', 'the cash machine kept the card', '{card_swallowed}'),
    ('test', 'asks how to receive money from others', '{receiving_money}'),
    ('test', 'wants a disposable card', '{get_disposable_virtual_card,disposable_card_limits}'),
    ('test', 'asks about topping up automatically', '{automatic_top_up}'),
    ('test', 'got the wrong amount of cash', '{wrong_amount_of_cash_received}'),
    ('test', 'asks where the money comes from', '{verify_source_of_funds}'),
    ('test', 'wants a Visa or Mastercard', '{visa_or_mastercard}');
CREATE TEMP TABLE asked AS
SELECT c.part, c.words, b.text, b.fits
FROM condition c, LATERAL (SELECT text, category = ANY (c.intents) AS fits,
    row_number() OVER (PARTITION BY category = ANY (c.intents) ORDER BY md5(c.words || text)) AS no FROM banking) b
WHERE b.no <= 10;
CREATE TEMP TABLE said AS
SELECT a.*, m.model, (slm_filter_details(words, text, model => m.model)).* FROM asked a, (VALUES ('minilm'), ('smollm2')) m(model);
WITH one AS (
    SELECT part, model, words, fits, avg(((probability >= 0.5) = fits)::int) AS accuracy, avg((value IS NOT NULL)::int) AS coverage,
        sum((value = fits)::int) AS sure_right, count(value) AS sure
    FROM said GROUP BY part, model, words, fits)
SELECT part, model, round(100 * avg(accuracy), 1) AS "balanced accuracy, %", round(100 * avg(coverage), 1) AS "not NULL, %",
    round(100 * sum(sure_right) / sum(sure), 1) AS "right of these, %"
FROM one GROUP BY part, model ORDER BY part, model;
