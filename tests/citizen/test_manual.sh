#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds the man pages against what they describe: the functions, structs, constants and
# statuses of acctlink.h, the config room's table of keys and its profiles. Their examples
# are compiled, or loaded by the built plugin. Prints TAP; a check without its input fails.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=${TH_BUILDDIR:-.}
plugin=${ACCTLINK_PLUGIN:-$builddir/.libs/acctlink.so}
man=$srcdir/man
header=$srcdir/include/acctlink.h
loader=$srcdir/include/acctlink_dl.h
map=$srcdir/plugin/abi/acctlink.map
keys=$srcdir/plugin/config/config_keys.c
profiles=$srcdir/plugin/config/profiles.c
makefile=$srcdir/Makefile.am
conf=$man/acctlink.conf.5

for input in "$plugin" "$man/acctlink.3" "$conf" "$header" "$loader" "$map" "$keys" "$profiles" "$makefile"; do
	if [ ! -s "$input" ]; then
		printf '1..1\nnot ok 1 - the_input_is_there\n# %s is missing or empty\n' "$input"
		exit 1
	fi
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/manual.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The compiler that the tree was configured with, and its sanitizer.
make_variable() {
	sed -n "s/^$1 = //p" "$builddir/Makefile" 2>/dev/null | head -n 1
}
cc=$(make_variable CC)
[ -n "$cc" ] || cc=cc
sanitize=$(make_variable AL_SANITIZE)

same_lists() { # what, list, what, list
	if [ -z "$2" ] || [ -z "$4" ]; then
		echo "$1 or $3: nothing was found"
		return 1
	fi
	[ "$2" = "$4" ] && return 0
	diff <(printf '%s\n' "$2") <(printf '%s\n' "$4") | sed -n "s|^<|only in $1:|p; s|^>|only in $3:|p"
	return 1
}

# A file of C as one line: one space between words, no comments.
flat() {
	tr -s '\n\t ' ' ' <"$1" | sed -E 's#/\*([^*]|\*+[^*/])*\*+/##g' | tr -s ' '
}

# ---- reading the pages ------------------------------------------------------------------

function_pages() {
	local page
	for page in "$man"/acctlink_*.3; do
		page=${page##*/}
		printf '%s\n' "${page%.3}"
	done
}

# The lines of one section.
section() { # page, title
	awk -v title="$2" '/^\.Sh / { inside = substr($0, 5) == title; next } inside' "$1"
}

# The literal blocks of what is read, each into DIR/NUMBER, as they come out.
split_blocks() { # dir
	mkdir -p "$1"
	awk -v dir="$1" '
		/^\.Bd -literal/ { file = dir "/" ++count; next }
		/^\.Ed/ { file = ""; next }
		file != "" { gsub(/\\e/, "\\"); print > file }'
}

# "TYPE NAME(ARGUMENTS)" for each function of the synopsis.
prototypes() {
	section "$1" SYNOPSIS | awk '
		function argument(text) { gsub(/^[^"]*"|"$/, "", text); list = list (list == "" ? "" : ", ") text }
		/^\.Ft / { type = substr($0, 5) }
		/^\.Fo / { name = $2; list = "" }
		/^\.Fa "/ { argument($0) }
		/^\.Fa [^"]/ { argument("\"" substr($0, 5) "\"") }
		/^\.Fc/ { print type " " name "(" list ")" }
		/^\.Fn / {
			name = $2; list = ""; rest = $0
			sub(/^\.Fn [^ ]+ /, "", rest)
			argument("\"" (rest ~ /^"/ ? substr(rest, 2, length(rest) - 2) : rest) "\"")
			print type " " name "(" list ")"
		}'
}

# The constants that a page explains: NAME NUMBER.
explained() {
	sed -nE 's/^\.It Dv (ACCTLINK_[A-Z_]+) Pq ([0-9]+)$/\1 \2/p' "$@"
}

# ---- the interface ------------------------------------------------------------------------

in_map() {
	sed -n '/global:/,/local:/p' "$map" | grep -oE 'acctlink_[a-z0-9_]+;' | tr -d ';' | sort
}

every_exported_function_has_a_page_and_every_page_a_function() {
	same_lists 'the map' "$(in_map)" man/ "$(function_pages | sort)"
}

the_overview_names_every_function() {
	same_lists 'the map' "$(in_map)" acctlink.3 \
		"$(section "$man/acctlink.3" DESCRIPTION | sed -nE 's/^\.It Xr (acctlink_[a-z_]+) 3$/\1/p' | sort)"
}

each_page_is_named_as_its_file() {
	local page name bad=0
	for page in "$man"/acctlink*.[0-9]; do
		page=${page##*/}
		name=${page%.*}
		grep -qxF ".Dt ${name^^} ${page##*.}" "$man/$page" || { echo "$page has another .Dt"; bad=1; }
		grep -qxF ".Nm $name" "$man/$page" || { echo "$page has another .Nm"; bad=1; }
	done
	return $bad
}

each_page_has_the_sections_that_readers_look_for() {
	local page title bad=0
	for page in $(function_pages); do
		for title in NAME SYNOPSIS DESCRIPTION 'RETURN VALUES' ERRORS THREADS 'SEE ALSO'; do
			[ -n "$(section "$man/$page.3" "$title")" ] || { echo "$page.3 has no $title"; bad=1; }
		done
	done
	return $bad
}

each_synopsis_is_the_prototype_of_the_header() {
	local page all
	all=$(for page in "$man"/acctlink*.3; do prototypes "$page"; done | sort)
	same_lists 'the headers' "$({
		flat "$header" | sed 's/( /(/g' | grep -oE '(acctlink_status|uint32_t) acctlink_[a-z_]+\([^)]*\);' | sed 's/;$//'
		flat "$loader" | grep -oE 'static inline (int|void) acctlink_dl_(open|close)\([^)]*\) \{' |
			sed 's/^static inline //; s/ {$//'
	} | sort)" man/ "$all"
}

structs() {
	grep -oE 'typedef struct acctlink_[a-z_]+ \{[^}]*\} acctlink_[a-z_]+;' | sort
}

each_struct_stands_in_one_page_as_in_the_header() {
	local page
	for page in "$man"/acctlink*.3; do
		split_blocks "$scratch/structs/${page##*/}" <"$page"
	done
	find "$scratch/structs" -type f -exec cat {} + >"$scratch/structs.h"
	same_lists acctlink.h "$(flat "$header" | structs)" man/ "$(flat "$scratch/structs.h" | structs)"
}

# Flags, statuses, events, states …; the version is no list.
numbered() {
	{
		flat "$header" | grep -oE 'ACCTLINK_[A-Z_]+ = [0-9]+' | sed 's/ = / /'
		sed -nE 's/^#define (ACCTLINK_[A-Z_]+) ([0-9]+)u.*/\1 \2/p' "$header" | grep -v '^ACCTLINK_ABI_'
	} | sort
}

every_constant_of_the_header_is_explained_once_with_its_number() {
	[ "$(numbered | wc -l)" -ge 70 ] || { echo 'the constants of acctlink.h were not found'; return 1; }
	same_lists acctlink.h "$(numbered)" man/ "$(explained "$man"/acctlink*.3 | sort)"
}

statuses_events_states_and_reasons_stand_in_the_overview() {
	local group='ACCTLINK_(LOG|EVENT|STATE|REASON)_|ACCTLINK_OK|^ACCTLINK_[A-Z_]+ [1-5][0-9][0-9]$'
	same_lists acctlink.h "$(numbered | grep -E "$group")" acctlink.3 "$(explained "$man/acctlink.3" | sort)"
}

every_other_macro_is_named_and_no_unknown_one() {
	same_lists acctlink.h "$({
		numbered | sed 's/ .*//'
		sed -nE 's/^#define (ACCTLINK_[A-Z_]+) .*/\1/p' "$header"
	} | sort -u)" man/ "$(cat "$man"/acctlink*.3 | grep -v '^\.Dt ' | grep -oE 'ACCTLINK_[A-Z_]+' | sort -u)"
}

# "FUNCTION STATUS" for each status in the "Returns" of a function's comment.
returned() {
	awk '
		/^\/\*\*/ { text = "" }
		/^ \* Returns/ { inside = 1 }
		/^ \* Threads/ { inside = 0 }
		inside { text = text " " $0 }
		/^acctlink_status acctlink_[a-z_]+\(/ {
			sub(/\(.*/, "", $2)
			gsub(/[^A-Z_]+/, " ", text)
			count = split(text, word, " ")
			for (i = 1; i <= count; i++)
				print $2, "ACCTLINK_" word[i]
			text = ""
		}' "$header" | grep -F -w -f <(numbered | grep -E ' [1-5][0-9][0-9]$' | sed 's/ .*//') | sort -u
}

each_page_lists_the_statuses_of_its_function() {
	local page bad=0
	[ "$(returned | wc -l)" -ge 60 ] || { echo 'the statuses of the functions were not found'; return 1; }
	for page in $(in_map); do
		[ "$page" != acctlink_abi_version ] || continue
		section "$man/$page.3" 'RETURN VALUES' | grep -qx '\.Dv ACCTLINK_OK.*' ||
			{ echo "$page.3 does not say what success returns"; bad=1; }
		same_lists "the header of $page" "$(returned | sed -n "s/^$page //p")" "$page.3" \
			"$(section "$man/$page.3" ERRORS | sed -nE 's/^\.It Dv (ACCTLINK_[A-Z_]+)$/\1/p' | sort)" || bad=1
	done
	return $bad
}

every_example_of_a_function_compiles() {
	local page file bad=0 count=0
	for page in "$man"/acctlink*.3; do
		section "$page" EXAMPLES | split_blocks "$scratch/examples/${page##*/}"
		for file in "$scratch/examples/${page##*/}"/*; do
			[ -f "$file" ] || continue
			count=$((count + 1))
			# shellcheck disable=SC2086 # a compiler may have arguments
			$cc -x c -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -I"$srcdir/include" \
				-fsyntax-only "$file" || { echo "the example of ${page##*/}"; bad=1; }
		done
	done
	[ "$count" -ge 8 ] || { echo "only $count examples were found"; return 1; }
	return $bad
}

# ---- the config file ---------------------------------------------------------------------------

# One key a line, as in the code.
table() {
	flat "$keys" | sed -e 's/.*al_config_keys\[\] = {//; s/{ \.name = NULL }.*//' -e 's/{ \.name = /\n/g' |
		grep '^"'
}

# 100 is 0.1: the code counts in milliseconds.
in_seconds() {
	local ms=$((${1:-0}))
	if [ $((ms % 1000)) -eq 0 ]; then
		printf '%d' $((ms / 1000))
	else
		printf '0.%03d' "$ms" | sed 's/0*$//'
	fi
}

bounds() { # entry
	local min max
	min=$(sed -nE 's/.*\.min = ([^,}]*[^,} ]).*/\1/p' <<<"$1" | sed -E 's/SECONDS/1000 */; s/DAYS/86400000 */')
	max=$(sed -nE 's/.*\.max = ([^,}]*[^,} ]).*/\1/p' <<<"$1" | sed -E 's/SECONDS/1000 */; s/DAYS/86400000 */')
	case $1 in
	*AL_KEY_SECONDS*) printf ', %s to %s' "$(in_seconds "$min")" "$(in_seconds "$max")" ;;
	*AL_KEY_COUNT*) printf ', %d to %d' "$((min))" "$((max))" ;;
	esac
}

kind() { # entry
	case $1 in
	*AL_KEY_SECTION*) echo Group ;;
	*AL_KEY_PATHS*) case $1 in '"key_file"'*) echo Path ;; *) echo 'Path or list of paths' ;; esac ;;
	*AL_KEY_PATH* | *AL_KEY_CA_FILE* | *AL_KEY_SECRET_FILE*) echo Path ;;
	*AL_KEY_ISSUER* | *AL_KEY_ENDPOINT*) echo URL ;;
	*AL_KEY_REDIRECTS*) echo 'URL or list of URLs' ;;
	*AL_KEY_SECONDS*) echo Seconds ;;
	*AL_KEY_COUNT*) echo Number ;;
	*AL_KEY_BOOL*) echo Boolean ;;
	*AL_KEY_CHOICE* | *AL_KEY_ALL_AUTHS*) echo Choice ;;
	*AL_KEY_ALGS*) echo 'Choice or list of choices' ;;
	*AL_KEY_SCOPE*) echo 'Text or list of texts' ;;
	*AL_KEY_PAIRS*) echo 'Group of texts' ;;
	*AL_KEY_RULES*) echo 'List of groups' ;;
	*AL_KEY_TEXT* | *AL_KEY_WORD* | *AL_KEY_SECRET* | *AL_KEY_CREDENTIAL*) echo Text ;;
	*) echo 'a kind that is unknown here' ;;
	esac
}

# The config room asks for these two groups by itself.
standard() { # entry
	local value
	value=$(sed -nE 's/.*\.standard = "((\\"|[^"])*)".*/\1/p' <<<"$1" | sed 's/\\"/"/g')
	case $1 in
	*'.required = true'* | '"store"'* | '"providers"'*) echo required ;;
	*) [ -n "$value" ] && printf 'default %s' "$value" || echo 'no default' ;;
	esac
}

keys_of_the_code() {
	table | while IFS= read -r entry; do
		printf '%s: %s%s; %s.\n' "$(cut -d'"' -f2 <<<"$entry")" "$(kind "$entry")" "$(bounds "$entry")" \
			"$(standard "$entry")"
	done | sort
}

keys_of_the_page() {
	awk '/^\.It Ic / { key = $3; next } key != "" { print key ": " $0; key = "" }' "$conf" | sort
}

every_config_key_stands_in_the_page_with_kind_bounds_and_default() {
	[ "$(table | wc -l)" -ge 60 ] || { echo 'the table of keys was not found'; return 1; }
	same_lists config_keys.c "$(keys_of_the_code)" acctlink.conf.5 "$(keys_of_the_page)"
}

# Each list of choices is told at the first key that takes it.
every_choice_of_a_key_is_named_at_the_key() {
	local list key choice bad=0 seen=0
	for list in $(table | sed -nE 's/.*\.choices = ([a-z_]+).*/\1/p' | awk '!seen[$0]++'); do
		key=$(table | grep -F ".choices = $list " | head -n 1 | cut -d'"' -f2)
		for choice in $(flat "$keys" | sed -nE "s/.* al_choice $list\[\] = \{([^;]*)\};.*/\1/p" | grep -oE '"[^"]+"'); do
			seen=$((seen + 1))
			awk -v key="$key" '/^\.It Ic / { inside = $3 == key } inside' "$conf" |
				grep -qE "Qq ${choice//\"/}( |\$)" || { echo "$key: $choice is not named"; bad=1; }
		done
	done
	[ "$seen" -ge 20 ] || { echo "only $seen choices were found"; return 1; }
	return $bad
}

the_built_in_profiles_are_shown_as_they_are() {
	section "$conf" PROFILES | split_blocks "$scratch/profiles"
	same_lists profiles.c "$(sed -n 's/^\t"\(.*\)\\n".*/\1/p' "$profiles" | sed '1d; $d; s/\\"/"/g' |
		tr -s '\t ' ' ' | sed 's/^ //')" acctlink.conf.5 "$(tr -s '\t ' ' ' <"$scratch/profiles/1" | sed 's/^ //')"
}

the_keys_that_pages_speak_of_exist() {
	local unknown
	unknown=$(cat "$man"/acctlink*.[35] | sed -nE 's/^\.(It )?Ic ([a-z_]+).*/\2/p' | sort -u |
		comm -23 - <(table | cut -d'"' -f2 | sort -u))
	[ -z "$unknown" ] || { echo "no such key: $unknown"; return 1; }
}

# Loads each config file it is given, as a host would.
write_loader() {
	cat >"$scratch/load.c" <<'C'
#include <acctlink_dl.h>

int main(int argc, char **argv)
{
	acctlink_api api;
	acctlink_error err = { 0 };
	int failed = acctlink_dl_open(argv[1], &api, err.message, sizeof(err.message));

	for (int i = 2; i < argc && !failed; i++) {
		acctlink_init_args args = ACCTLINK_INIT_ARGS_INIT;
		acctlink *handle = NULL;

		args.config_path = (acctlink_str){ argv[i], strlen(argv[i]) };
		failed = api.init(&args, &handle, &err) != ACCTLINK_OK || api.shutdown(handle, 0, &err) != ACCTLINK_OK;
	}
	if (failed)
		printf("%s: %s\n", err.where, err.message);
	return failed != 0;
}
C
	# shellcheck disable=SC2086 # both may have arguments
	$cc -std=c11 $sanitize -I"$srcdir/include" -o "$scratch/load" "$scratch/load.c" -ldl
}

# The paths of the examples lie in a folder of ours; their first block makes the key.
the_config_examples_are_taken_by_the_plugin() {
	local etc=$scratch/etc file count=0
	mkdir -m 0700 "$etc" "$scratch/var"
	section "$conf" EXAMPLES | split_blocks "$scratch/conf"
	for file in "$scratch"/conf/*; do
		count=$((count + 1))
		sed "s#/etc/acctlink#$etc#; s#/etc/acctlink#$etc#; s#/var/lib/acctlink#$scratch/var/$count#" "$file" \
			>"$etc/${file##*/}.conf"
	done
	[ "$count" -ge 3 ] || { echo "only $count examples were found"; return 1; }
	sh "$etc/1.conf"
	[ "$(stat -c %a "$etc/store.key")" = 600 ] || { echo 'the first example makes no key of mode 0600'; return 1; }
	rm "$etc/1.conf"
	(
		umask 077
		echo secret | tee "$etc/akoya.secret" "$etc/first.secret" "$etc/second" >"$etc/second-ca.pem"
		cp "$etc/store.key" "$etc/old.key"
		printf '%064d' 1 >"$etc/new.key"
	)
	write_loader && CREDENTIALS_DIRECTORY=$etc "$scratch/load" "$plugin" "$etc"/*.conf
}

# ---- the pages as such --------------------------------------------------------------------------------

every_cross_reference_to_a_page_of_ours_leads_there() {
	local name number bad=0
	while read -r name number; do
		[ -f "$man/$name.$number" ] || { echo "there is no $name($number)"; bad=1; }
	done < <(cat "$man"/*.[0-9] | sed -nE 's/^\.(It )?Xr (acctlink[a-z_.]*) ([0-9]).*/\2 \3/p' | sort -u)
	return $bad
}

make_install_takes_every_page() {
	local page bad=0
	for page in "$man"/*.[0-9]; do
		grep -qF "man/${page##*/}" "$makefile" || { echo "Makefile.am does not name man/${page##*/}"; bad=1; }
	done
	return $bad
}

lint() { # page
	if command -v mandoc >/dev/null; then
		mandoc -T lint -W warning "$1" 2>&1
	else
		{ groff -mandoc -ww -Tascii "$1" >/dev/null; } 2>&1
	fi
}

the_pages_are_clean() {
	local page found bad=0
	if ! command -v mandoc >/dev/null && ! command -v groff >/dev/null; then
		echo 'neither mandoc nor groff is installed'
		return 77
	fi
	for page in "$man"/*.[0-9]; do
		if ! found=$(lint "$page") || [ -n "$found" ]; then
			printf '%s: %s\n' "${page##*/}" "$found"
			bad=1
		fi
	done
	return $bad
}

this_check_fails_when_its_input_is_missing() {
	local missing
	! ACCTLINK_PLUGIN=$scratch/none bash "${BASH_SOURCE[0]}" >/dev/null 2>&1 || { echo 'without the plugin it passes'; return 1; }
	for missing in man/acctlink_list.3 man/acctlink.conf.5 include/acctlink.h plugin/config/config_keys.c \
		plugin/config/profiles.c; do
		rm -rf "$scratch/copy"
		mkdir -p "$scratch/copy/plugin"
		cp -r "$man" "$srcdir/include" "$makefile" "$scratch/copy"
		cp -r "$srcdir/plugin/abi" "$srcdir/plugin/config" "$scratch/copy/plugin"
		chmod -R u+w "$scratch/copy"
		: >"$scratch/copy/$missing"
		! TH_INNER=1 TH_SRCDIR=$scratch/copy bash "${BASH_SOURCE[0]}" >/dev/null 2>&1 ||
			{ echo "without $missing it passes"; return 1; }
	done
}

tests='every_exported_function_has_a_page_and_every_page_a_function
the_overview_names_every_function
each_page_is_named_as_its_file
each_page_has_the_sections_that_readers_look_for
each_synopsis_is_the_prototype_of_the_header
each_struct_stands_in_one_page_as_in_the_header
every_constant_of_the_header_is_explained_once_with_its_number
statuses_events_states_and_reasons_stand_in_the_overview
every_other_macro_is_named_and_no_unknown_one
each_page_lists_the_statuses_of_its_function
every_example_of_a_function_compiles
every_config_key_stands_in_the_page_with_kind_bounds_and_default
every_choice_of_a_key_is_named_at_the_key
the_built_in_profiles_are_shown_as_they_are
the_keys_that_pages_speak_of_exist
the_config_examples_are_taken_by_the_plugin
every_cross_reference_to_a_page_of_ours_leads_there
make_install_takes_every_page
the_pages_are_clean
this_check_fails_when_its_input_is_missing'
# The last one runs this script again.
[ -z "${TH_INNER:-}" ] || tests=$(sed '$d' <<<"$tests")

run_tests "$tests"
