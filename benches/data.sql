-- The data of `cargo xtask bench`: orders `first` to `last` of a shop, about 200 bytes each in COPY text form, which zstd -3
-- makes some 3.5 times smaller. The same rows each time.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SET synchronous_commit = off;
CREATE TABLE IF NOT EXISTS orders (
    order_id bigint NOT NULL,
    customer_id int NOT NULL,
    ordered_at timestamptz NOT NULL,
    state text NOT NULL,
    amount numeric(12, 2) NOT NULL,
    token uuid NOT NULL,
    address text NOT NULL,
    items jsonb NOT NULL,
    remark text
);
-- Plain arithmetic instead of random(): a slice is the same whatever was loaded before it.
INSERT INTO orders
SELECT n,
       n * 7919 % 250000,
       timestamptz '2020-01-01' + n * interval '17 seconds',
       ('{new,paid,packed,sent,sent,sent,sent,returned}'::text[])[1 + n * 31 % 8],
       (n * 104729 % 9999999) / 100.0,
       md5(n::text)::uuid,
       ('{Harbour Street,Mill Lane,Station Road,Rua das Flores,Lindenallee,Calle Mayor}'::text[])[1 + n * 13 % 6] || ' ' ||
           n * 37 % 180 || ', ' || lpad((n * 6151 % 99999)::text, 5, '0') || ' ' ||
           ('{Porto,Graz,Utrecht,Aarhus,Valencia,Leeds,Poznań,Malmö}'::text[])[1 + n * 17 % 8],
       jsonb_build_array(
           jsonb_build_object('sku', 'LB-' || lpad((n * 31 % 20000)::text, 5, '0'), 'quantity', 1 + n % 4),
           jsonb_build_object('sku', 'LB-' || lpad((n * 977 % 20000)::text, 5, '0'), 'quantity', 1 + n % 3)),
       CASE WHEN n % 3 = 0 THEN ('{calls before delivery,gate on the left,"tab\there, and \"quotes\"",pays by invoice}'::text[])[1 + n % 4] END
FROM generate_series(:first::bigint, :last::bigint) AS n;
