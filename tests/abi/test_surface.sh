#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the plugin shows to a host: the exported symbols, the flags of the object, and the
# public headers. Compares them with each other: the header, the map, the loader and the
# built plugin must name the same functions. Prints TAP; a check without its input fails.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=${TH_BUILDDIR:-.}
plugin=${ACCTLINK_PLUGIN:-$builddir/.libs/acctlink.so}
header=$srcdir/include/acctlink.h
loader=$srcdir/include/acctlink_dl.h
map=$srcdir/plugin/abi/acctlink.map
names=$srcdir/plugin/base/error.c

for input in "$plugin" "$header" "$loader" "$map" "$names"; do
	if [ ! -s "$input" ]; then
		printf '1..1\nnot ok 1 - the_input_is_there\n# %s is missing or empty\n' "$input"
		exit 1
	fi
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/surface.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The compilers that the tree was configured with.
make_variable() {
	sed -n "s/^$1 = //p" "$builddir/Makefile" 2>/dev/null | head -n 1
}
cc=$(make_variable CC)
cxx=$(make_variable CXX)
[ -n "$cc" ] || cc=cc
[ -n "$cxx" ] || cxx=c++
strict='-Wall -Wextra -Wconversion -Wpedantic -Werror'

# ---- the four lists of functions, sorted --------------------------------------------------

in_header() {
	sed -nE 's/^(acctlink_status|uint32_t) (acctlink_[a-z0-9_]+)\(.*/\2/p' "$header" | sort
}

in_map() {
	sed -n '/global:/,/local:/s/^[[:space:]]*\(acctlink_[a-z0-9_]*\);.*/\1/p' "$map" | sort
}

# acctlink_dl_symbol(…, "acctlink_NAME", &a.NAME, …)
in_loader() {
	sed -nE 's/.*"acctlink_([a-z0-9_]+)", &a\.([a-z0-9_]+),.*/\1 \2/p' "$loader" |
		while read -r symbol member; do
			[ "$symbol" = "$member" ] || printf 'member %s resolves ' "$member"
			printf 'acctlink_%s\n' "$symbol"
		done | sort
}

# NAME@@VERSION of all that another object can bind to; the version itself is no symbol.
in_plugin() {
	readelf --dyn-syms -W "$plugin" |
		awk '$1 ~ /^[0-9]+:$/ && ($5 == "GLOBAL" || $5 == "WEAK") && $7 != "UND" && $7 != "ABS" { print $8 }' | sort
}

same_lists() { # what, list, what, list
	if [ -z "$2" ] || [ -z "$4" ]; then
		echo "$1 or $3: no function was found"
		return 1
	fi
	[ "$2" = "$4" ] && return 0
	diff <(printf '%s\n' "$2") <(printf '%s\n' "$4") | sed -n "s/^</only in $1:/p; s/^>/only in $3:/p"
	return 1
}

# ---- symbols ----------------------------------------------------------------------------------

exported_are_exactly_the_names_of_the_map_at_version_1() {
	same_lists 'the plugin' "$(in_plugin)" 'the map' "$(in_map | sed 's/$/@@ACCTLINK_1/')"
}

the_map_hides_everything_else_and_has_one_node() {
	grep -q '^[[:space:]]*\*;' "$map" || { echo 'no "local: *;"'; return 1; }
	[ "$(grep -c '{' "$map")" -eq 1 ] || { echo 'more than one node'; return 1; }
	grep -q '^ACCTLINK_1 {' "$map"
}

every_function_of_the_header_is_in_the_map() {
	same_lists acctlink.h "$(in_header)" 'the map' "$(in_map)"
}

the_loader_resolves_every_function_of_the_header() {
	same_lists acctlink.h "$(in_header)" acctlink_dl.h "$(in_loader)"
}

# What the plugin must not do to its host, as seen by the dynamic linker.
nothing_is_imported_that_changes_the_host() {
	local found
	found=$(nm -D --undefined-only "$plugin" | awk '{ print $NF }' | sed 's/@.*//' | grep -xF -e setlocale -e signal \
		-e sigaction -e sigprocmask -e umask -e chdir -e fchdir -e setenv -e putenv -e unsetenv -e clearenv -e exit \
		-e system -e popen -e atexit -e pthread_key_create -e curl_global_cleanup -e OPENSSL_cleanup)
	[ -z "$found" ] || { echo "imported: $found" | tr '\n' ' '; return 1; }
	[ -n "$(nm -D --undefined-only "$plugin")" ] || { echo 'nothing is imported at all'; return 1; }
}

# ---- the object -----------------------------------------------------------------------------------

the_plugin_is_never_unloaded() {
	readelf -dW "$plugin" | grep -E '\(FLAGS_1\)' | grep -qw NODELETE
}

the_plugin_is_bound_at_once_and_read_only_after() {
	readelf -dW "$plugin" | grep -qE '\(FLAGS\).*BIND_NOW|\(FLAGS_1\).*NOW' || { echo 'not BIND_NOW'; return 1; }
	readelf -lW "$plugin" | grep -q GNU_RELRO || { echo 'no RELRO'; return 1; }
}

the_plugin_has_no_executable_stack_and_no_relocated_text() {
	readelf -lW "$plugin" | grep GNU_STACK | grep -q ' RW ' || { echo 'GNU_STACK is not RW'; return 1; }
	! readelf -dW "$plugin" | grep -q TEXTREL || { echo TEXTREL; return 1; }
}

# ---- the headers -------------------------------------------------------------------------------------

compile() { # compiler, language, flags …; the source comes on stdin
	local compiler=$1 language=$2
	shift 2
	# shellcheck disable=SC2086 # a compiler may have arguments
	$compiler -x "$language" "$@" -I"$srcdir/include" -fsyntax-only -
}

headers_compile_alone_as_c11() {
	local name
	for name in acctlink.h acctlink_dl.h; do
		# shellcheck disable=SC2086
		printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' $name $name |
			compile "$cc" c -std=c11 $strict -Wstrict-prototypes || return 1
	done
}

headers_compile_alone_as_c_plus_plus_17() {
	local name
	for name in acctlink.h acctlink_dl.h; do
		# shellcheck disable=SC2086
		printf '#include "%s"\n#include "%s"\nint main() { return 0; }\n' $name $name |
			compile "$cxx" c++ -std=c++17 $strict || return 1
	done
}

public_structs_have_no_hidden_padding() {
	printf '#include "acctlink.h"\n' | compile "$cc" c -std=c11 -Wpadded -Werror || return 1
	# The compiler must be one that tells.
	! printf 'struct s { char c; long l; };\n' | compile "$cc" c -std=c11 -Wpadded -Werror 2>/dev/null ||
		{ echo "$cc does not warn of padding"; return 1; }
}

structs() {
	sed -nE 's/^typedef struct (acctlink_[a-z_]+) \{.*/\1/p' "$header"
}

sizes_are_multiples_of_8() {
	local name
	[ "$(structs | wc -l)" -ge 15 ] || { echo 'the structs of acctlink.h were not found'; return 1; }
	{
		printf '#include "acctlink.h"\n'
		for name in $(structs); do
			printf '_Static_assert(sizeof(%s) %% 8 == 0, "%s");\n' "$name" "$name"
		done
	} | compile "$cc" c -std=c11 -Werror
}

# The size comes first, and NAME_INIT sets it.
sized_structs_begin_with_their_size_and_have_an_init() {
	local name upper
	{
		printf '#include <stddef.h>\n#include "acctlink.h"\nint main(void)\n{\n\tint bad = 0;\n'
		for name in $(structs); do
			case $name in
			*_args | *_result | *_info | *_hooks) ;;
			*) continue ;;
			esac
			upper=$(printf '%s' "$name" | tr '[:lower:]' '[:upper:]')
			printf '\t{\n\t\t%s it = %s_INIT;\n\t\tbad |= offsetof(%s, size) != 0 || it.size != sizeof(it);\n\t}\n' \
				"$name" "$upper" "$name"
		done
		printf '\treturn bad;\n}\n'
	} >"$scratch/init.c"
	[ "$(grep -c _INIT "$scratch/init.c")" -ge 12 ] || { echo 'the sized structs were not found'; return 1; }
	# shellcheck disable=SC2086
	$cc -std=c11 -Wall -Wextra -Werror -I"$srcdir/include" -o "$scratch/init" "$scratch/init.c" && "$scratch/init"
}

# Named by the enum of the header, grouped in hundreds, told apart by number and by name.
every_status_of_the_header_has_a_name() {
	local statuses name
	statuses=$(sed -n '/ACCTLINK_OK = 0/,/};/p' "$header" | grep -oE 'ACCTLINK_[A-Z_]+ = [0-9]+' | sed 's/ = .*//')
	[ "$(printf '%s\n' "$statuses" | wc -l)" -ge 20 ] || { echo 'the statuses of acctlink.h were not found'; return 1; }
	{
		printf '#include <stdio.h>\n#include <string.h>\n#include "base/base.h"\nint main(void)\n{\n\tint bad = 0;\n'
		for name in $statuses; do
			printf '\tif (strcmp(al_status_name(%s), "%s") != 0) {\n\t\tputs("%s has another name");\n\t\tbad = 1;\n\t}\n' \
				"$name" "${name#ACCTLINK_}" "$name"
		done
		printf '\treturn bad || strcmp(al_status_name(12345), "UNKNOWN") != 0;\n}\n'
	} >"$scratch/names.c"
	# shellcheck disable=SC2086
	$cc -std=c11 -D_GNU_SOURCE -I"$srcdir/plugin" -I"$srcdir/include" -o "$scratch/names" "$scratch/names.c" "$names" &&
		"$scratch/names"
}

every_function_of_the_header_has_a_comment_that_lists_its_statuses() {
	awk '
		/^\/\*\*/ { comment = "" }
		/^(\/\*\*| \*)/ { comment = comment $0 "\n" }
		/^acctlink_status acctlink_[a-z_]+\(/ {
			seen++
			if (comment !~ / Returns / || comment !~ / Threads /) {
				print "no Returns or Threads before: " $0
				bad = 1
			}
		}
		/^[^ \/]/ { comment = "" }
		END { exit bad || seen < 10 }' "$header"
}

this_check_fails_when_its_input_is_missing() {
	local missing
	mkdir -p "$scratch/empty"
	! TH_SRCDIR=$scratch/empty bash "${BASH_SOURCE[0]}" >/dev/null 2>&1 || { echo 'without sources it passes'; return 1; }
	! ACCTLINK_PLUGIN=$scratch/empty/acctlink.so bash "${BASH_SOURCE[0]}" >/dev/null 2>&1 ||
		{ echo 'without the plugin it passes'; return 1; }
	for missing in include/acctlink.h plugin/abi/acctlink.map; do
		rm -rf "$scratch/copy"
		mkdir -p "$scratch/copy/plugin"
		cp -r "$srcdir/include" "$scratch/copy/include"
		cp -r "$srcdir/plugin/abi" "$srcdir/plugin/base" "$scratch/copy/plugin"
		chmod -R u+w "$scratch/copy"
		: >"$scratch/copy/$missing"
		! TH_SRCDIR=$scratch/copy bash "${BASH_SOURCE[0]}" >/dev/null 2>&1 || { echo "without $missing it passes"; return 1; }
	done
}

tests='exported_are_exactly_the_names_of_the_map_at_version_1
the_map_hides_everything_else_and_has_one_node
every_function_of_the_header_is_in_the_map
the_loader_resolves_every_function_of_the_header
nothing_is_imported_that_changes_the_host
the_plugin_is_never_unloaded
the_plugin_is_bound_at_once_and_read_only_after
the_plugin_has_no_executable_stack_and_no_relocated_text
headers_compile_alone_as_c11
headers_compile_alone_as_c_plus_plus_17
public_structs_have_no_hidden_padding
sizes_are_multiples_of_8
sized_structs_begin_with_their_size_and_have_an_init
every_status_of_the_header_has_a_name
every_function_of_the_header_has_a_comment_that_lists_its_statuses
this_check_fails_when_its_input_is_missing'

run_tests "$tests"
