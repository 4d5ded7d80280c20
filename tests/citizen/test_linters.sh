#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# clang-format, clang-tidy, cppcheck and shellcheck over the whole tree: they have nothing
# to say. .clang-format and .clang-tidy have the rules; what a part of the tree is spared
# stands here with its reason. Each tool is shown a bad file as well. A tool that is not
# installed is skipped, and so are all in a tree with a sanitizer: the sources are the
# same. Prints TAP.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=$(cd -P -- "${TH_BUILDDIR:-.}" && pwd)
cd "$srcdir" || exit 1

if [ -n "$(sed -n 's/^AL_SANITIZE = *//p' "$builddir/Makefile" 2>/dev/null)" ]; then
	echo '1..0 # SKIP the linters read the same sources in every tree'
	exit 0
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/linters.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The flags that a compiler gets, but for what configure finds out.
flags=(-D_GNU_SOURCE -DOPENSSL_NO_DEPRECATED '-DACCTLINK_CONFIG_PATH="/etc/acctlink/acctlink.conf"'
	'-DACCTLINK_STATE_DIR="/var/lib/acctlink"' '-DACCTLINK_VERSION="0"' -Iplugin -Iinclude -Itests/lib
	-Itools/practice -Itools/acctlinkctl)

need() { # program
	command -v "$1" >/dev/null || { echo "$1 is not installed"; return 77; }
}

sources() { # file or folder …
	find "$@" -name '*.c' -type f -not -path '*/node_modules/*' | LC_ALL=C sort
}

# ---- the tools ---------------------------------------------------------------------------------

# A few files each, as many at once as there are processors.
tidy() { # checks to add or to leave out, file or folder …
	local checks=$1 status=0
	shift
	need clang-tidy || return
	[ -n "$(sources "$@")" ] || { echo "no C source in $*"; return 1; }
	{
		printf 'exec clang-tidy --quiet --checks=%q "$@" -- -std=c11 ' "$checks"
		printf '%q ' "${flags[@]}" -include tests/citizen/analyzer.h
	} >"$scratch/tidy"
	sources "$@" | xargs -d '\n' -n 4 -P "$(nproc)" bash "$scratch/tidy" >"$scratch/tidy.log" 2>&1 || status=1
	[ $status -eq 0 ] || grep -vE '^([0-9]+ warnings? (generated|treated)|Suppressed |Use -|\[[0-9]+/[0-9]+\] Processing)' \
		"$scratch/tidy.log" | head -n 100
	return $status
}

# NULL may end the arguments of a function where it is a pointer, as in all C libraries of
# ours. Version 2.17 says of each file that it could look longer.
check_cpp() { # --suppress=… …, file or folder …
	need cppcheck || return
	cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr \
		--suppress=varFuncNullUB --suppress=normalCheckLevelMaxBranches \
		--error-exitcode=1 --include=tests/citizen/cppcheck.h "${flags[@]}" "$@"
}

scripts() {
	find . -type d \( -name .git -o -name node_modules -o -name 'build*' -o -name '*cache' -o -name 'acctlink-[0-9]*' \
		-o -name m4 \) -prune -o -type f \( -name '*.sh' -o -name '*.bash' -o -name run \) -print | LC_ALL=C sort
}

# ---- the tests ------------------------------------------------------------------------------------

every_c_file_is_formatted() {
	need clang-format || return
	tools/format.sh --check
}

clang_tidy_has_nothing_to_say_of_the_plugin() {
	tidy '' plugin
}

# A program that prints and exits: nothing follows from a printf that fails; exit, getenv and
# getopt are its own. Products of constants fit, and version 14 takes an array of pointers
# for a mistake. Out of memory ends it, whatever realloc leaves behind.
program=-cert-err33-c,-concurrency-mt-unsafe,-bugprone-implicit-widening-of-multiplication-result
program+=,-bugprone-sizeof-expression,-bugprone-suspicious-realloc-usage

clang_tidy_has_nothing_to_say_of_acctlinkctl() {
	tidy $program tools/acctlinkctl
}

# A switch over many faults has branches that happen to be alike, and a wire's descriptor is
# -1 in states that version 19 can't tell from the others.
clang_tidy_has_nothing_to_say_of_the_other_tools_and_hosts() {
	tidy $program,-bugprone-branch-clone,-clang-analyzer-unix.StdCLibraryFunctions tools/practice tools/judge hosts
}

# The analyzer doesn't know that cmocka's assertions end a test, and each of them counts as
# a branch. Tests wrap functions of the C library under their reserved names, run commands,
# read back numbers that they know, build bytes that are no text, and compare what only some
# builds have.
clang_tidy_has_nothing_to_say_of_the_tests() {
	tidy "$program,-bugprone-branch-clone,-clang-analyzer-*,-readability-function-size,-bugprone-reserved-identifier,\
-cert-dcl37-c,-cert-dcl51-cpp,-readability-redundant-declaration,-cert-env33-c,-cert-err34-c,\
-bugprone-not-null-terminated-result,-misc-redundant-expression" tests
}

cppcheck_has_nothing_to_say_of_the_plugin() {
	check_cpp plugin
}

cppcheck_has_nothing_to_say_of_the_tools_and_hosts() {
	check_cpp tools hosts
}

# It doesn't know that an assertion ends a test, so what was asserted is still open to it;
# and version 2.10 stumbles over a macro with a for loop in it.
cppcheck_has_nothing_to_say_of_the_tests() {
	local spared=() id
	for id in nullPointer nullPointerRedundantCheck nullPointerArithmetic nullPointerArithmeticRedundantCheck \
		nullPointerOutOfMemory nullPointerArithmeticOutOfMemory ctunullpointer ctunullpointerOutOfMemory memleak \
		memleakOnRealloc deallocuse uninitvar arrayIndexOutOfBoundsCond internalAstError; do
		spared+=("--suppress=$id")
	done
	check_cpp "${spared[@]}" tests
}

# Programs of awk and sed stand in single quotes, and a trap or a list of tests calls
# functions by name.
spared_scripts=('--exclude=SC2016,SC2317,SC2329')

shellcheck_has_nothing_to_say_of_the_scripts() {
	local list
	need shellcheck || return
	mapfile -t list < <(scripts)
	[ ${#list[@]} -ge 10 ] || { echo "only ${#list[@]} scripts were found"; return 1; }
	shellcheck "${spared_scripts[@]}" "${list[@]}"
}

# ---- and that they see something -------------------------------------------------------------------

noticed() { # a word of the complaint, command …
	local word=$1 output status
	shift
	output=$("$@" 2>&1)
	status=$?
	[ $status -ne 77 ] || { printf '%s\n' "$output"; return 77; }
	[ $status -ne 0 ] || { echo "$1 passes a bad file"; return 1; }
	case $output in
	*"$word"*) ;;
	*) echo "$1 does not say $word: $output"; return 1 ;;
	esac
}

bad_c() {
	cat >"$scratch/bad.c" <<'C'
#include <stdlib.h>

int bad(void)
{
  char *text = malloc(4);
  char small[4];

  free(text);
  small[4] = 'x';
  return text[0] + small[4];
}
C
}

clang_format_notices_a_bad_file() {
	bad_c
	noticed bad.c tools/format.sh --check "$scratch/bad.c"
}

clang_tidy_notices_a_bad_file() {
	bad_c
	cp .clang-tidy "$scratch"
	noticed clang-analyzer-unix.Malloc tidy '' "$scratch"
}

cppcheck_notices_a_bad_file() {
	bad_c
	noticed arrayIndexOutOfBounds check_cpp "$scratch/bad.c"
}

shellcheck_notices_a_bad_file() {
	need shellcheck || return
	printf '#!/bin/sh\nrm -r $1\n' >"$scratch/bad.sh"
	noticed SC2086 shellcheck "${spared_scripts[@]}" "$scratch/bad.sh"
}

tests='every_c_file_is_formatted
clang_tidy_has_nothing_to_say_of_the_plugin
clang_tidy_has_nothing_to_say_of_acctlinkctl
clang_tidy_has_nothing_to_say_of_the_other_tools_and_hosts
clang_tidy_has_nothing_to_say_of_the_tests
cppcheck_has_nothing_to_say_of_the_plugin
cppcheck_has_nothing_to_say_of_the_tools_and_hosts
cppcheck_has_nothing_to_say_of_the_tests
shellcheck_has_nothing_to_say_of_the_scripts
clang_format_notices_a_bad_file
clang_tidy_notices_a_bad_file
cppcheck_notices_a_bad_file
shellcheck_notices_a_bad_file'
# Words choose some of them.
[ $# -eq 0 ] || tests=$(grep -E "$(IFS='|' && echo "$*")" <<<"$tests")

run_tests "$tests"
