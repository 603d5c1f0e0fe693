#!/bin/sh
# Installs the system packages that only tests need, where it may; where it may not, their tests are skipped.
set -eu
packages="mosquitto influxdb chromium fonts-noto-cjk libpango-1.0-0 libpangoft2-1.0-0 docker-compose postgresql openssl"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo"; else
    echo "test-tools: not root and no sudo; the tests that need$missing will be skipped" >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
fi
command -v apt-get >/dev/null || { echo "test-tools: no apt-get here; the tests that need$missing will be skipped" >&2; exit 0; }
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# The packages' own services would take ports that nobody asked for.
$as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
