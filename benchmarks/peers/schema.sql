CREATE TABLE refund (
    id text PRIMARY KEY, payment text NOT NULL, amount bigint NOT NULL, currency text NOT NULL, state text NOT NULL,
    provider_refund_id text, created_at double precision NOT NULL, updated_at double precision NOT NULL
);
CREATE TABLE attempt (
    refund_id text NOT NULL REFERENCES refund (id), no integer NOT NULL, started_at double precision NOT NULL,
    ended_at double precision, http_status integer, answer text, PRIMARY KEY (refund_id, no)
);
