#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Lays out the C sources as .clang-format says, or with --check tells which are not.
# Debian 12's clang-format (14) and Debian 13's (19) give the same.
set -euo pipefail

usage() {
	cat <<'TXT'
usage: tools/format.sh [--check] [FILE…]

Without files: all *.c and *.h of plugin, include, hosts, tools and tests. CLANG_FORMAT
names another clang-format than the one in the PATH.
TXT
}

check=
while [ $# -gt 0 ]; do
	case $1 in
	--check) check=1 ;;
	-h | --help) usage && exit 0 ;;
	-*) printf 'tools/format.sh: unknown option %s (--help lists them)\n' "$1" >&2 && exit 2 ;;
	*) break ;;
	esac
	shift
done
clang_format=${CLANG_FORMAT:-clang-format}
command -v "$clang_format" >/dev/null ||
	{ printf 'tools/format.sh: %s is not installed\n' "$clang_format" >&2 && exit 2; }

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
files=("$@")
if [ ${#files[@]} -eq 0 ]; then
	cd "$root"
	mapfile -t files < <(find plugin include hosts tools tests -name node_modules -prune -o -type f -name '*.[ch]' \
		-print | LC_ALL=C sort)
fi

style=file:$root/.clang-format
if [ -z "$check" ]; then
	exec "$clang_format" --style="$style" -i "${files[@]}"
fi
status=0
for file in "${files[@]}"; do
	found=$(diff -u --label "$file" --label "$file, laid out" "$file" <("$clang_format" --style="$style" "$file")) || {
		status=1
		sed -n 1,20p <<<"$found"
	}
done
exit $status
