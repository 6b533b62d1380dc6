#!/bin/sh
# Makes ./secrets: random keys and passwords, one file each. Files that are there are kept.
#
#   sh deploy/secrets.sh [POSTGRES_HOST:PORT [REDIS_HOST:PORT]]      by default as docker-compose.yml has them
set -eu
cd "$(dirname "$0")/.."
postgres=${1:-postgres:5432}
redis=${2:-redis:6379}

umask 077
mkdir -p secrets
random() { python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'; }
word() { random | tr -d '=\n'; }
made() { test -s "secrets/$1"; }
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

made encryption_keys || random > secrets/encryption_keys
made index_key || random > secrets/index_key
for role in postgres owner app; do
    made "${role}_password" || word > "secrets/${role}_password"
done
made owner_url || echo "postgresql+psycopg://refundry:$(cat secrets/owner_password)@$postgres/refundry" > secrets/owner_url
made app_url || echo "postgresql+psycopg://refundry_app:$(cat secrets/app_password)@$postgres/refundry" > secrets/app_url
made flower_sign_in || echo "ops:$(word)" > secrets/flower_sign_in
if ! made redis_users; then
    cp deploy/redis/users.acl secrets/redis_users.new
    for user in worker shop listener flower; do
        password=$(word)
        mark=$(echo "$user" | tr a-z A-Z)
        sed -i "s/#$mark/#$(hash "$password")/" secrets/redis_users.new
        echo "redis://$([ $user = worker ] && echo refundry || echo $user):$password@$redis/0" > "secrets/${user}_redis_url"
    done
    mv secrets/redis_users.new secrets/redis_users
fi
# The folder keeps others out; the containers' own users must read the files.
chmod 444 secrets/*
