# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# How a test script ends: runs functions by their names and prints TAP. Sourced. A test is
# good if it returns 0 and skipped if it returns 77; what it prints is the reason.

# In a shell of its own each; status 1 if one has failed. A runner gets the name and runs it.
run_tests() { # names, one a line; runner or nothing
	local test output number=0 failed=0
	printf '1..%d\n' "$(printf '%s\n' "$1" | wc -l)"
	for test in $1; do
		number=$((number + 1))
		output=$(${2-} "$test" 2>&1)
		case $? in
		0) printf 'ok %d - %s\n' "$number" "$test" ;;
		77) printf 'ok %d - %s # SKIP %s\n' "$number" "$test" "$output" ;;
		*)
			failed=$((failed + 1))
			printf 'not ok %d - %s\n' "$number" "$test"
			printf '%s\n' "$output" | sed 's/^/# /'
			;;
		esac
	done
	[ "$failed" -eq 0 ]
}
