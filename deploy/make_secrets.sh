#!/usr/bin/env bash
# deploy/make_secrets.sh [FOLDER]: makes secrets/ with a token, passwords and an empty address for alarms; what is there
# already stays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder" # only its owner gets to the files, which the containers' users must be able to read
for name in serve_token log_password grafana_password; do
    [ -e "$folder/$name" ] || python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > "$folder/$name"
done
[ -e "$folder/monitoring_webhook" ] || : > "$folder/monitoring_webhook" # a URL, if somebody is to be told of alarms
chmod 644 "$folder"/*
ls "$folder"
