#!/usr/bin/env bash
# Chromium and its driver from the packages of Debian, unless they are there. Where they cannot be installed this says
# why and ends well: the tests then skip themselves.
set -uo pipefail
if command -v chromedriver >/dev/null && { command -v chromium || command -v google-chrome; } >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "no chromium and chromedriver; to install them by apt-get takes Debian and root" >&2
    exit 0
fi
echo "installing chromium and its driver"
if ! said=$( (apt-get -qq update && apt-get -qq -y install --no-install-recommends chromium chromium-driver) 2>&1); then
    echo "chromium cannot be installed: $(tail -n 1 <<<"$said")" >&2
fi
