#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The source tree as such: every test is registered, every file is in the archive that
# `make dist` packs, and all of them keep to a few rules of form and size. Then each check
# is checked: its rule is broken once in a copy and must be noticed. Prints TAP; a check
# without its input fails.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}

# Lines between the braces of a function, lines of a file. Far above the usual (the median
# function has 9 lines) and just above the longest of today: what outgrows them gets split.
plugin_function=45 plugin_file=720
tool_function=45 tool_file=780

scratch=$(mktemp -d "${TMPDIR:-/tmp}/source.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# ---- the files ------------------------------------------------------------------------------

# The paths of all files that people write, whether or not the tree is under git. What an
# in-tree build leaves between them has other names.
written() { # root
	(
		cd "$1" && find . -type d \( -name .git -o -name node_modules -o -name '*cache' -o -name 'build*' -o -name m4 \
			-o -name '_build' -o -name '_inst' -o -name '.libs' -o -name '.deps' -o -name 'acctlink-[0-9]*' \) -prune -o -type f \( -name '*.[ch]' \
			-o -name '*.hpp' -o -name '*.cc' -o -name '*.sh' -o -name '*.bash' -o -name '*.mjs' -o -name '*.awk' \
			-o -name '*.py' -o -name '*.map' -o -name '*.[1-9]' -o -name '*.conf' -o -name '*.md' -o -name '*.am' \
			-o -name '*.ac' -o -name '*.in' -o -name run -o -name NEWS -o -name '.clang-*' \) -print
	) | sed 's|^\./||' | grep -vxE 'Makefile\.in|config\.h\.in|config\.h' | LC_ALL=C sort
}

# Those with code in them: not the documents, nor the configs that an operator makes his own.
code() { # root
	written "$1" | grep -vE '\.(md|conf)$|^NEWS$'
}

# "file:line: what" for each line that an awk program prints, file by file.
in_each() { # root, list, awk program
	local found
	[ "$(printf '%s\n' "$2" | wc -l)" -ge 20 ] || { echo 'the files were not found'; return 1; }
	found=$(cd "$1" && printf '%s\n' "$2" | LC_ALL=C xargs -d '\n' awk "$3") || { echo "awk failed: $found"; return 1; }
	[ -z "$found" ] || { printf '%s\n' "$found" | head -n 40; return 1; }
}

# ---- Makefile.am --------------------------------------------------------------------------------

# The words of the variables whose names match, with the variables in them replaced.
words_of() { # root, regular expression
	awk -v wanted="$2" '
		function expand(text, depth,   list, count, i, inner) {
			count = split(text, list, /[ \t]+/)
			for (i = 1; i <= count; i++) {
				if (list[i] ~ /^\$\([A-Za-z_]+\)$/) {
					inner = substr(list[i], 3, length(list[i]) - 3)
					if (depth < 9 && inner in value)
						expand(value[inner], depth + 1)
				} else if (list[i] != "") {
					print list[i]
				}
			}
		}
		/^[ \t]*#/ && !more { next }
		{
			text = $0
			more_next = sub(/\\$/, "", text)
			if (more) {
				value[name] = value[name] " " text
			} else if (match(text, /^[A-Za-z0-9_]+[ \t]*\+?=/)) {
				name = substr(text, 1, RLENGTH)
				sub(/[ \t]*\+?=$/, "", name)
				value[name] = value[name] " " substr(text, RLENGTH + 1)
			} else {
				name = "-"
			}
			more = more_next
		}
		END {
			for (name in value)
				if (name ~ wanted)
					expand(value[name], 0)
		}' "$1/Makefile.am" | LC_ALL=C sort -u
}

programs() { # root
	words_of "$1" '^check_PROGRAMS$'
}

# What `make dist` takes along: what is named as such, the sources of programs that name
# none, what configure fills in, and what automake always takes.
distributed() { # root
	{
		words_of "$1" '^EXTRA_DIST$|(^|_)dist_|_SOURCES$|_HEADERS$'
		words_of "$1" '_PROGRAMS$' | sed 's/$/.c/'
		sed -nE 's/^AC_CONFIG_FILES\(\[([^]]*)\].*/\1/p' "$1/configure.ac" | tr ' ' '\n' | sed 's/$/.in/'
		printf '%s\n' Makefile.am configure.ac NEWS README.md
	} | LC_ALL=C sort -u
}

# ---- the checks, each for a tree ------------------------------------------------------------------

check_programs() { # root
	local source bad=0 count=0
	for source in "$1"/tests/*/test_*.c "$1"/tests/*/test_*.cc "$1"/tests/*/test_*.cpp; do
		[ -f "$source" ] || continue
		count=$((count + 1))
		source=${source#"$1/"}
		programs "$1" | grep -qxF "${source%.*}" || { echo "$source: Makefile.am does not build it"; bad=1; }
	done
	[ "$count" -ge 40 ] || { echo "only $count test programs were found"; return 1; }
	for source in $(programs "$1"); do
		compgen -G "$1/$source.c*" >/dev/null || { echo "Makefile.am: $source has no source"; bad=1; }
	done
	return $bad
}

check_scripts() { # root
	local script bad=0 count=0 packed
	packed=$(distributed "$1")
	for script in "$1"/tests/*/test_*.sh; do
		[ -f "$script" ] || continue
		count=$((count + 1))
		script=${script#"$1/"}
		[ -x "$1/$script" ] || { echo "$script is not executable"; bad=1; }
		grep -qxF "$script" <<<"$packed" || { echo "$script is not in EXTRA_DIST"; bad=1; }
	done
	[ "$count" -ge 5 ] || { echo "only $count test scripts were found"; return 1; }
	return $bad
}

# A cmocka test is a function of a test file or of a header beside it; it is registered by
# cmocka_unit_test… or a macro for it, in the same file or, for a header, beside it.
check_cmocka() { # root
	local folder found bad=0 seen=0
	for folder in "$1"/tests/*/; do
		compgen -G "$folder/test_*.c" >/dev/null || continue
		# shellcheck disable=SC2046 # one file a word
		found=$(awk '
			FNR == 1 { number++; file[number] = FILENAME; sub(/.*\/tests\//, "tests/", file[number]) }
			match($0, /^static void [A-Za-z0-9_]+\(void \*\*[a-z_]*\)/) && !/;$/ {
				name = substr($0, 13)
				sub(/\(.*/, "", name)
				defined[number, name] = FNR
			}
			match($0, /^#define [A-Za-z_0-9]+\([a-z]+\) cmocka_unit_test/) {
				name = substr($0, 9)
				sub(/\(.*/, "", name)
				macro[name] = 1
				next
			}
			{ text[number] = text[number] " " $0 }
			END {
				for (i = 1; i <= number; i++) {
					rest = text[i]
					while (match(rest, /[A-Za-z_0-9]+\([ \t]*[A-Za-z0-9_]+/)) {
						call = name = substr(rest, RSTART, RLENGTH)
						rest = substr(rest, RSTART + RLENGTH)
						sub(/\(.*/, "", call)
						sub(/.*\([ \t]*/, "", name)
						if ((call ~ /^cmocka_unit_test/ || call in macro) && times[i, name]++)
							print file[i] ": " name " is registered twice"
					}
				}
				for (key in defined) {
					split(key, part, SUBSEP)
					used = 0
					for (i = 1; i <= number; i++)
						if (i == part[1] || file[i] ~ /\.h$/ || file[part[1]] ~ /\.h$/)
							used += times[i, part[2]]
					if (used == 0)
						print file[part[1]] ":" defined[key] ": " part[2] " is never registered"
					count++
				}
				print "seen " count + 0
			}' $(find "$folder" -maxdepth 1 -name '*.[ch]' | LC_ALL=C sort))
		seen=$((seen + $(sed -n 's/^seen //p' <<<"$found")))
		found=$(sed '/^seen /d' <<<"$found")
		[ -z "$found" ] || { printf '%s\n' "$found"; bad=1; }
	done
	[ "$seen" -ge 500 ] || { echo "only $seen tests were found"; return 1; }
	return $bad
}

# A test of a script is a function that the script names once more: in its list.
check_shell_tests() { # root
	local script name bad=0 seen=0
	for script in "$1"/tests/*/test_*.sh; do
		while read -r name; do
			seen=$((seen + 1))
			[ "$(grep -vE '^[[:space:]]*#' "$script" | grep -ow -- "$name" | wc -l)" -ge 2 ] ||
				{ echo "${script#"$1/"}: $name is never called"; bad=1; }
		done < <(sed -nE 's/^([a-z_0-9]+)\(\) *\{.*/\1/p' "$script")
	done
	[ "$seen" -ge 50 ] || { echo "only $seen functions were found"; return 1; }
	return $bad
}

# "quickstart.sh check unit flow" or "tests/run abi", wherever a document says so.
check_suites() { # root
	local suites name bad=0 seen=0
	suites=$("$1/tests/run" --list) || { echo 'tests/run --list fails'; return 1; }
	for name in $(cd "$1" && cat ./*.md doc/*.md | grep -oE '(quickstart\.sh check|tests/run)( --?[a-z-]+)*( [a-z]+)+' |
		sed -E 's/.*(check|run) //; s/--[a-z-]+//g'); do
		seen=$((seen + 1))
		grep -qxF "$name" <<<"$suites" || { echo "a document names the suite $name, which is not there"; bad=1; }
	done
	[ "$seen" -ge 2 ] || { echo 'no document names a suite'; return 1; }
	return $bad
}

check_archive_has_what_makefile_names() { # root
	local file bad=0 found
	found=$(words_of "$1" '^EXTRA_DIST$|(^|_)dist_|_SOURCES$|_HEADERS$')
	[ "$(wc -l <<<"$found")" -ge 200 ] || { echo 'the files of Makefile.am were not found'; return 1; }
	for file in $found; do
		[ -f "$1/$file" ] || { echo "Makefile.am: there is no $file"; bad=1; }
	done
	return $bad
}

# Git's own files and the check of changes stay at home.
check_everything_is_packed() { # root, its files
	local missing
	[ "$(wc -l <<<"$2")" -ge 200 ] || { echo 'the files of the tree were not found'; return 1; }
	missing=$(LC_ALL=C comm -23 <(grep -vE '^(\.gitignore|\.ci/.*)$' <<<"$2" | LC_ALL=C sort) <(distributed "$1"))
	# shellcheck disable=SC2086 # one path a word
	[ -z "$missing" ] || { printf 'not in the archive, enter it in Makefile.am: %s\n' $missing; return 1; }
}

check_license() { # root
	in_each "$1" "$(code "$1")" '
		FNR == 1 && /^#!/ { next }
		FNR <= 2 && !(FILENAME in seen) {
			seen[FILENAME] = 1
			if (!/^(\/\*|#|\/\/|dnl|\.\\"|\/\*\*)[ ]SPDX-License-Identifier: MIT/)
				print FILENAME ":" FNR ": SPDX-License-Identifier: MIT does not come first"
		}'
}

check_blanks() { # root
	in_each "$1" "$(written "$1")" '
		/[ \t]$/ { print FILENAME ":" FNR ": blanks at the end" }
		/\r/ { print FILENAME ":" FNR ": a carriage return" }
		/^ +\t/ { print FILENAME ":" FNR ": a space before a tab" }
		FNR == 1 && NR > 1 && last == "" { print before ": an empty line at the end" }
		{ last = $0; before = FILENAME }' || return 1
	local file bad=0
	for file in $(written "$1"); do
		[ -z "$(tail -c 1 "$1/$file")" ] || { echo "$file: the last line has no end"; bad=1; }
	done
	return $bad
}

# Tabs indent; a space at the margin of C is the edge of a comment.
check_tabs() { # root
	in_each "$1" "$(written "$1" | grep -E '\.(c|h|hpp|cc|mjs)$')" '
		/^ [^*]/ { print FILENAME ":" FNR ": indented by a space" }
		/[^\t]\t+[^\t]/ && !/^ \*/ && !/"[^"]*\t/ { print FILENAME ":" FNR ": a tab inside the line" }'
}

# A tab counts as one, a string as nothing: messages and JSON stay in one piece, to be
# found by a search.
check_length() { # root
	in_each "$1" "$(written "$1" | grep -E '\.(c|h|hpp|cc|sh|bash|mjs)$|/run$')" '
		length($0) > 120 {
			line = $0
			gsub(/"([^"\\]|\\.)*"/, "", line)
			gsub(/\047([^\047\\]|\\.)*\047/, "", line)
			gsub(/`[^`]*`/, "", line)
			if (length(line) > 120)
				print FILENAME ":" FNR ": " length(line) " characters besides the strings"
		}'
}

# Where somebody built or tried it once is nobody else's business. In bare.sh /root is
# the one inside the Debian that it makes.
check_paths() { # root
	in_each "$1" "$(written "$1" | grep -vxF tests/bare.sh)" '
		/(^|[^A-Za-z0-9_.$})\]*-])\/(home|root|work)\/[A-Za-z0-9]/ { print FILENAME ":" FNR ": a path of one machine: " $0 }
		/(^|[^A-Za-z0-9_.$})\]*-])\/(var\/)?tmp\/[A-Za-z0-9]/ && !/XXXXXX/ {
			print FILENAME ":" FNR ": a path of one machine: " $0
		}'
}

check_sizes() { # root
	local sizes=$1/tools/sizes.sh
	"$sizes" --top 5 --max-function $plugin_function --max-file $plugin_file "$1/plugin" &&
		"$sizes" --top 5 --max-function $tool_function --max-file $tool_file "$1/tools" "$1/hosts" "$1/tests/lib"
}

# ---- the tests --------------------------------------------------------------------------------------

every_test_program_is_built() {
	check_programs "$srcdir"
}

every_test_script_is_executable_and_packed() {
	check_scripts "$srcdir"
}

every_cmocka_test_is_registered_once() {
	check_cmocka "$srcdir"
}

every_function_of_a_test_script_is_called() {
	check_shell_tests "$srcdir"
}

every_suite_that_a_document_names_is_there() {
	check_suites "$srcdir"
}

every_file_that_makefile_names_is_there() {
	check_archive_has_what_makefile_names "$srcdir"
}

every_file_under_git_is_packed() {
	local files
	[ -e "$srcdir/.git" ] || { echo 'the tree is not under git'; return 77; }
	command -v git >/dev/null || { echo 'git is not installed'; return 77; }
	# A tree may be another user's, which git wants to be told is all right.
	files=$(git -c safe.directory='*' -C "$srcdir" ls-files --cached 2>&1) || { echo "git cannot read the tree"; return 77; }
	files=$(while IFS= read -r file; do [ ! -f "$srcdir/$file" ] || printf '%s\n' "$file"; done <<<"$files")
	check_everything_is_packed "$srcdir" "$files"
}

every_code_file_begins_with_its_license() {
	check_license "$srcdir"
}

no_line_ends_in_blanks_and_every_file_in_a_line() {
	check_blanks "$srcdir"
}

c_and_javascript_are_indented_by_tabs() {
	check_tabs "$srcdir"
}

no_line_is_longer_than_120_characters() {
	check_length "$srcdir"
}

no_file_names_a_path_of_one_machine() {
	check_paths "$srcdir"
}

no_function_and_no_file_is_too_long() {
	check_sizes "$srcdir" >"$scratch/sizes" 2>&1
	local status=$?
	[ $status -eq 0 ] || cat "$scratch/sizes"
	return $status
}

# ---- and the checks themselves -------------------------------------------------------------------------

fresh_copy() {
	rm -rf "$scratch/root"
	mkdir -p "$scratch/root"
	(cd "$srcdir" && written . | tar -cf - -T - LICENSE plugin/abi/acctlink.map) | tar -xf - -C "$scratch/root"
	chmod -R u+w "$scratch/root"
}

# The check, run on the copy as it is now, must fail and say what is wrong.
notices() { # check, a word of its complaint, further arguments of the check
	local check=$1 word=$2 output
	shift 2
	if output=$("$check" "$scratch/root" "$@" 2>&1); then
		echo "$check passes: $word"
		return 1
	fi
	case $output in
	*"$word"*) ;;
	*) echo "$check does not name $word: $output"; return 1 ;;
	esac
}

a_test_that_is_not_registered_is_noticed() {
	fresh_copy
	local root=$scratch/root
	printf '/* SPDX-License-Identifier: MIT */\n' >"$root/tests/unit/test_forgotten.c"
	notices check_programs tests/unit/test_forgotten.c || return 1
	rm "$root/tests/unit/test_forgotten.c" "$root/tests/unit/test_net.c"
	notices check_programs tests/unit/test_net || return 1
	printf 'static void nobody_runs_this(void **state)\n{\n\t(void)state;\n}\n' >>"$root/tests/unit/test_base.c"
	notices check_cmocka nobody_runs_this || return 1
	printf 'cmocka_unit_test(nobody_runs_this), cmocka_unit_test(nobody_runs_this),\n' >>"$root/tests/unit/test_base.c"
	notices check_cmocka 'nobody_runs_this is registered twice' || return 1
	printf 'nobody_calls_this() {\n\t:\n}\n' >>"$root/tests/abi/test_rooms.sh"
	notices check_shell_tests nobody_calls_this || return 1
	cp "$root/tests/abi/test_rooms.sh" "$root/tests/abi/test_more.sh"
	notices check_scripts tests/abi/test_more.sh || return 1
	rm "$root/tests/abi/test_more.sh"
	chmod a-x "$root/tests/abi/test_rooms.sh"
	notices check_scripts 'test_rooms.sh is not executable' || return 1
	echo 'Run `./quickstart.sh check nosuch`.' >>"$root/README.md"
	notices check_suites nosuch
}

a_file_that_is_not_packed_is_noticed() {
	fresh_copy
	local files
	files=$(written "$scratch/root")
	notices check_everything_is_packed doc/forgotten.md "$files
doc/forgotten.md" || return 1
	rm "$scratch/root/plugin/net/url.c"
	notices check_archive_has_what_makefile_names plugin/net/url.c
}

# Each bad line, at the end of a file of the copy, and the check that must see it.
each_rule_of_form_is_noticed_when_broken() {
	fresh_copy
	local root=$scratch/root file=plugin/link/link.c slash=/ check line
	cp "$root/$file" "$scratch/good.c"
	while IFS='|' read -r check line; do
		cp "$scratch/good.c" "$root/$file"
		"$check" "$root" >/dev/null || { echo "$check fails on the copy"; return 1; }
		printf '%b\n' "$line" >>"$root/$file"
		notices "$check" "$file" || return 1
	done <<LINES
check_blanks|int x;\040
check_blanks|\tint x;\t
check_blanks|int x;\r
check_blanks|  \tint x;
check_blanks|int x;\n
check_tabs|    int x;
check_tabs|int\tx;
check_length|$(printf 'int %0130d;' 0 | tr 0 x)
check_paths|/* see ${slash}home/somebody/notes */
check_paths|static const char *log = "${slash}tmp/log";
LINES
	cp "$scratch/good.c" "$root/$file"
	printf 'int x;' >>"$root/$file"
	notices check_blanks "$file" || return 1
	sed 1d "$scratch/good.c" >"$root/$file"
	notices check_license "$file" || return 1
	cp "$scratch/good.c" "$root/$file"
	{ printf 'void far_too_long(void)\n{\n'; yes '	x();' | head -n 80; printf '}\n'; } >>"$root/$file"
	notices check_sizes far_too_long || return 1
	yes 'int x;' | head -n 800 >>"$root/plugin/net/url.c"
	notices check_sizes plugin/net/url.c
}

every_check_fails_without_its_input() {
	local check
	rm -rf "$scratch/root"
	mkdir -p "$scratch/root/tests/unit"
	: >"$scratch/root/Makefile.am"
	: >"$scratch/root/tests/unit/test_x.c"
	for check in check_programs check_scripts check_cmocka check_shell_tests check_suites \
		check_archive_has_what_makefile_names check_license check_blanks check_tabs check_length check_paths \
		check_sizes; do
		! "$check" "$scratch/root" >/dev/null 2>&1 || { echo "$check passes without input"; return 1; }
	done
	! check_everything_is_packed "$scratch/root" '' >/dev/null 2>&1 || { echo 'nothing to pack passes'; return 1; }
}

tests='every_test_program_is_built
every_test_script_is_executable_and_packed
every_cmocka_test_is_registered_once
every_function_of_a_test_script_is_called
every_suite_that_a_document_names_is_there
every_file_that_makefile_names_is_there
every_file_under_git_is_packed
every_code_file_begins_with_its_license
no_line_ends_in_blanks_and_every_file_in_a_line
c_and_javascript_are_indented_by_tabs
no_line_is_longer_than_120_characters
no_file_names_a_path_of_one_machine
no_function_and_no_file_is_too_long
a_test_that_is_not_registered_is_noticed
a_file_that_is_not_packed_is_noticed
each_rule_of_form_is_noticed_when_broken
every_check_fails_without_its_input'

run_tests "$tests"
