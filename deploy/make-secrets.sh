#!/bin/sh
# Makes the env files of compose.yml with fresh secrets, for the owner's eyes only. Leaves alone those that are there: losing
# PLATFORM_KEYS is losing every stored credential, so keep a copy of control-plane.env where secrets are kept.
#   sh deploy/make-secrets.sh [folder]      default: the folder of this script
set -eu
umask 077
cd "${1:-$(dirname "$0")}"
for file in postgres.env owner.env control-plane.env worker.env; do
  if [ -e "$file" ]; then
    echo "$(pwd)/$file is there already; nothing was made." >&2
    exit 1
  fi
done
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
root=$(secret) owner=$(secret) web=$(secret) run=$(secret)
keys='{"current":"k1","keys":{"k1":"'$(head -c 32 /dev/urandom | base64)'"}}'
at=postgres:5432/tributary

cat > postgres.env <<END
POSTGRES_PASSWORD=$root
OWNER_PASSWORD=$owner
WEB_PASSWORD=$web
RUN_PASSWORD=$run
END
echo "DATABASE_URL=postgres://tributary_owner:$owner@$at" > owner.env
cat > control-plane.env <<END
DATABASE_URL=postgres://tributary_web:$web@$at
PLATFORM_KEYS=$keys
END
cat > worker.env <<END
DATABASE_URL=postgres://tributary_run:$run@$at
PLATFORM_KEYS=$keys
END
echo "Made postgres.env, owner.env, control-plane.env and worker.env in $(pwd)."
