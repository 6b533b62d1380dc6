-- Three roles for the ledger. Run by a superuser (or the database's owner with CREATEROLE) in the database itself, before
-- the first `refundry db upgrade` and again after each one; it may be run any number of times.
--
--   refundry          owns the tables; for `refundry db upgrade` alone
--   refundry_app      workers, beat, API, console and command line: rows, no tables
--   refundry_auditor  reads everything but what opens doors (hashes of passwords and keys, sessions), writes nothing
--
-- Passwords are set apart from this file:  \password refundry

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['refundry', 'refundry_app', 'refundry_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO refundry, refundry_app, refundry_auditor', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO refundry;
GRANT USAGE ON SCHEMA public TO refundry_app, refundry_auditor;

-- What a later migration makes is reachable at once.
ALTER DEFAULT PRIVILEGES FOR ROLE refundry IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO refundry_app;
ALTER DEFAULT PRIVILEGES FOR ROLE refundry IN SCHEMA public GRANT USAGE ON SEQUENCES TO refundry_app;
ALTER DEFAULT PRIVILEGES FOR ROLE refundry IN SCHEMA public GRANT SELECT ON TABLES TO refundry_auditor;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO refundry_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO refundry_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO refundry_auditor;

-- The journal, its anchors and the postings only grow. Of the rest only what expires is deleted: beats, sessions, tries,
-- saved views, figures of charts, what has been told or notified and is old.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['event', 'anchor', 'posting'] LOOP
        IF to_regclass(name) IS NOT NULL THEN
            EXECUTE format('REVOKE UPDATE, DELETE ON %I FROM refundry_app', name);
        END IF;
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'payment', 'refund', 'attempt', 'approval', 'person', 'rejected', 'external', 'account', 'bookmark',
        'api_key', 'webhook_endpoint', 'recon_run', 'recon_file', 'recon_line', 'recon_difference',
        'bulk_operation', 'bulk_item', 'counted'
    ] LOOP
        IF to_regclass(name) IS NOT NULL THEN
            EXECUTE format('REVOKE DELETE ON %I FROM refundry_app', name);
        END IF;
    END LOOP;
    IF to_regclass('alembic_version') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM refundry_app;
    END IF;
END
$$;

-- What people and machines sign in with is nothing to be audited: a hash can be guessed at, a session is somebody's.
DO $$
DECLARE
    name text;
    hidden text;
    others text;
BEGIN
    FOREACH name IN ARRAY ARRAY['session', 'sign_in_link', 'sign_in_try'] LOOP
        IF to_regclass(name) IS NOT NULL THEN
            EXECUTE format('REVOKE SELECT ON %I FROM refundry_auditor', name);
        END IF;
    END LOOP;
    FOR name, hidden IN VALUES ('person', 'password'), ('api_key', 'secret_hash') LOOP
        IF to_regclass(name) IS NOT NULL THEN
            SELECT string_agg(quote_ident(attname), ', ') INTO others FROM pg_attribute
            WHERE attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped AND attname <> hidden;
            EXECUTE format('REVOKE SELECT ON %I FROM refundry_auditor', name);
            EXECUTE format('GRANT SELECT (%s) ON %I TO refundry_auditor', others, name);
        END IF;
    END LOOP;
END
$$;

ALTER ROLE refundry_auditor SET default_transaction_read_only = on;
