#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds the table of cases in doc/akoya.md against the tests of this suite: each row
# names a test that runs, and names it once.
set -euo pipefail

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
doc=$here/../../doc/akoya.md
number=0

report() {
	number=$((number + 1))
	if [ -z "$2" ]; then
		printf 'ok %d - %s\n' "$number" "$1"
	else
		printf '%s\n' "$2" | sed 's/^/# /'
		printf 'not ok %d - %s\n' "$number" "$1"
	fi
}

rows=$(sed -n '/^## The cases/,/^## What/s/^| .* | `\([a-z0-9_]*\)` |$/\1/p' "$doc")
tests=$(sed -n 's/^\t\t[a-z]*_test(\([a-z0-9_]*\)),\{0,1\}$/\1/p' "$here"/test_*.c)
lines=$(sed -n '/^## The cases/,/^## What/p' "$doc" | grep -c '^| ' || :)

printf '1..3\n'
missing=$(comm -23 <(sort -u <<<"$rows") <(sort -u <<<"$tests"))
report 'every_row_of_the_table_names_a_test_that_runs' "${missing:+no such test: $missing}"
report 'no_row_is_without_its_test' "$([ "$lines" -eq $(($(wc -l <<<"$rows") + 1)) ] ||
	echo "$lines lines of the table, $(wc -l <<<"$rows") tests in it")"
twice=$(sort <<<"$rows" | uniq -d)
report 'no_test_stands_for_two_rows' "${twice:+twice: $twice}"
