#!/bin/sh
# The roles' passwords, from secrets; run by the PostgreSQL image once, after roles.sql.
set -eu

for role in refundry:owner refundry_app:app; do
    psql --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
        --set "role=${role%%:*}" --set "password=$(cat "/run/secrets/${role##*:}_password")" <<'SQL'
ALTER ROLE :"role" PASSWORD :'password';
SQL
done
