#!/usr/bin/env bash
# Makes secrets/ with a token, passwords and an empty address for alarms; what is there already stays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p secrets
chmod 700 secrets # only its owner gets to the files, which the containers' users must be able to read
for name in serve_token log_password grafana_password; do
    [ -e "secrets/$name" ] || python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > "secrets/$name"
done
[ -e secrets/monitoring_webhook ] || : > secrets/monitoring_webhook # a URL, if somebody is to be told of alarms
chmod 644 secrets/*
ls secrets
