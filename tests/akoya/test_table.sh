#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds the tables of doc/akoya.md against the tests of this suite, both ways: each
# row names a test that runs, each test has its row, and all 32 cases are there.
set -euo pipefail

here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
doc=$here/../../doc/akoya.md
cases=32
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

tables=$(sed -n '/^## The cases/,/^## What/p' "$doc")
rows=$(sed -n 's/^| .* | `\([a-z0-9_]*\)` |$/\1/p' <<<"$tables")
lines=$(grep '^|' <<<"$tables" | grep -cv -e '^|-' -e '| test |$' || :)
numbers=$(sed -n 's/^| \([0-9]*\) | .* | .* | `[a-z0-9_]*` |$/\1/p' <<<"$tables")
tests=$(grep -hv "^#" "$here"/test_*.c | tr -s '\n\t ' ' ' | grep -oE '[a-z_]*test[a-z_]*\( ?[a-z0-9_]+[,)]' |
	sed -E 's/.*\( ?//; s/[,)]$//')

printf '1..5\n'
missing=$(comm -23 <(sort -u <<<"$rows") <(sort -u <<<"$tests"))
report 'every_row_of_the_tables_names_a_test_that_runs' "${missing:+no such test: $missing}"
missing=$(comm -13 <(sort -u <<<"$rows") <(sort -u <<<"$tests"))
report 'every_test_of_the_suite_has_its_row' "${missing:+not in doc/akoya.md: $missing}"
report 'no_row_is_without_its_test' "$([ "$lines" -eq "$(wc -l <<<"$rows")" ] ||
	echo "$lines rows, $(wc -l <<<"$rows") of them with a test")"
twice=$(sort <<<"$rows" | uniq -d)
report 'no_test_stands_for_two_rows' "${twice:+twice: $twice}"
missing=$(comm -3 <(sort -u <<<"$numbers") <(seq "$cases" | sort -u))
report 'all_cases_are_there_and_no_others' "${missing:+missing, or not a case: $missing}"
