#!/bin/sh
# A browser for the tests of `avst report`: Debian's Chromium, where there is none and this may install one.
# It never fails: without a browser those tests are skipped, and say so. AVST_NO_BROWSER=1 leaves the machine as it is.
set -u
for name in "${AVST_BROWSER:-}" chromium chromium-browser google-chrome google-chrome-stable chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ -n "${AVST_NO_BROWSER:-}" ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium here, and it is not installed unasked: the tests of the report's page will be skipped" >&2
    exit 0
fi
log=$(mktemp)
echo "installing Debian's chromium for the tests of the report's page (AVST_NO_BROWSER=1 leaves them out)" >&2
if ! { timeout 120 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "chromium could not be installed: the tests of the report's page will be skipped" >&2
fi
rm -f "$log"
exit 0
