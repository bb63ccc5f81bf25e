#!/bin/sh
# Run once by the image of PostgreSQL, on an empty volume: the database, its owner, and a login without power for each side.
set -eu
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v web="$WEB_PASSWORD" -v run="$RUN_PASSWORD" \
  --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'END'
create role tributary_owner login createrole nosuperuser password :'owner';
create database tributary owner tributary_owner;
create role tributary_web login noinherit nosuperuser password :'web';
create role tributary_run login noinherit nosuperuser password :'run';
END
