#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Reports the longest functions and files of C sources, and the median length of a function.
# A function's length is the number of lines between its braces. With limits it ends with
# status 1 and names what is longer; so it does if it finds no function at all.
set -euo pipefail

usage() {
	cat <<'TXT'
usage: tools/sizes.sh [options] [FOLDER…]

Without a folder it reads plugin/.

  --top N           how many functions and files are shown (15)
  --max-function N  a longer function is an error
  --max-file N      a longer file is an error
TXT
}

die() {
	printf 'tools/sizes.sh: %s\n' "$1" >&2
	exit 2
}

top=15
max_function=0
max_file=0
folders=()
while [ $# -gt 0 ]; do
	case $1 in
	--top | --max-function | --max-file)
		[[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a number"
		case $1 in
		--top) top=$2 ;;
		--max-function) max_function=$2 ;;
		--max-file) max_file=$2 ;;
		esac
		shift
		;;
	-h | --help) usage && exit 0 ;;
	-*) die "unknown option $1 (--help lists them)" ;;
	*) folders+=("$1") ;;
	esac
	shift
done
if [ ${#folders[@]} -eq 0 ]; then
	cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
	folders=(plugin)
fi

# "LENGTH FILE:LINE NAME" for each function: its braces stand alone at the margin, and what
# stands before them since the last end of a declaration is its head.
functions_of() { # file …
	awk '
		FNR == 1 { head = ""; inside = 0 }
		inside && /^}/ { print FNR - start - 1, FILENAME ":" start, name; inside = 0; head = ""; next }
		inside { next }
		/^\{$/ {
			name = head
			if (match(name, /\([a-z_]+\)\(/)) # in parentheses, lest a macro takes it
				name = " " substr(name, RSTART + 1)
			sub(/\)/, "", name)
			sub(/[ \t]*\(.*/, "", name)
			sub(/.*[ \t*]/, "", name)
			start = FNR
			inside = name != ""
			next
		}
		/^$/ || /^[#\/ ]/ || /[;}]$/ { head = ""; next }
		{ head = head $0 }' "$@"
}

mapfile -t files < <(find "${folders[@]}" -name '*.[ch]' -type f | LC_ALL=C sort)
[ ${#files[@]} -gt 0 ] || die "no C source in ${folders[*]}"
functions=$(functions_of "${files[@]}" | sort -k1,1nr -k2,2)
[ -n "$functions" ] || die "no function in ${folders[*]}"
lengths=$(wc -l "${files[@]}" | awk '$2 != "total" { print $1, $2 }' | sort -k1,1nr -k2,2)

# The first lines of a list that is sorted.
show() { # list
	awk -v top="$top" 'NR <= top { printf "%6d  %s  %s\n", $1, $2, $3 }' <<<"$1" | sed 's/ *$//'
}

printf 'longest functions (lines between the braces)\n'
show "$functions"
printf 'longest files\n'
show "$lengths"
awk '{ length_of[NR] = $1; sum += $1 }
	END { printf "%d functions, median %d lines, mean %.1f\n", NR, length_of[int((NR + 1) / 2)], sum / NR }' <<<"$functions"
awk '{ sum += $1 } END { printf "%d files, %d lines\n", NR, sum }' <<<"$lengths"

over() { # list, limit, what
	[ "$2" -gt 0 ] || return 0
	awk -v max="$2" -v what="$3" '$1 > max { printf "%s is longer than %d lines: %s %s (%d)\n", what, max, $2, $3, $1; bad = 1 }
		END { exit bad }' <<<"$1"
}
status=0
over "$functions" "$max_function" function || status=1
over "$lengths" "$max_file" file || status=1
exit $status
