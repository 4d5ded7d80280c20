#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds the documents against the tree: each block of C compiles, the README's host is
# hosts/c/minimal.c, links lead somewhere, manual pages, statuses, config keys, commands
# and programs that are spoken of exist. Says nothing about whether sentences are true.
# shellcheck disable=SC2016 # the backquotes are those of Markdown
set -uo pipefail

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"
export LC_ALL=C

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
cc=${CC:-cc}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/acctlink-documents.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT

documents() {
	(cd "$srcdir" && printf '%s\n' ./*.md doc/*.md) | sed 's#^\./##'
}

# The fenced blocks of a document whose info string begins with a word, with lines in
# their places: what is not in such a block is an empty line.
only_blocks() { # file, word
	awk -v word="$2" '
		/^[ \t]*```/ {
			if (open) { open = inside = 0 }
			else { open = 1; info = $0; sub(/^[ \t]*```/, "", info); split(info, part, " "); inside = part[1] == word }
			print ""
			next
		}
		{ print inside ? $0 : "" }' "$1"
}

# What is not in a fenced block.
prose() { # file
	awk '/^[ \t]*```/ { open = !open; print ""; next } { print open ? "" : $0 }' "$1"
}

compiles() { # document
	local document=$1
	only_blocks "$srcdir/$document" c >"$scratch/blocks.c"
	grep -q . "$scratch/blocks.c" || { echo "$document has no C"; return 1; }
	{
		printf '#line 1 "%s"\n' "$document"
		cat "$scratch/blocks.c"
	} >"$scratch/file.c"
	# shellcheck disable=SC2086 # a compiler may have arguments
	$cc -x c -std=gnu11 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-function -I"$srcdir/include" "$scratch/file.c"
}

the_c_of_the_readme_compiles() {
	compiles README.md
}

# One file, block after block.
the_c_of_the_integrators_guide_compiles() {
	compiles doc/integrator.md
}

the_readmes_host_is_the_minimal_host() {
	# The comment at the top of the file is for those who meet it there.
	diff -u <(awk '/^#include/ { on = 1 } on' "$srcdir/hosts/c/minimal.c") \
		<(only_blocks "$srcdir/README.md" c | awk 'NF { on = 1 } on' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}')
}

# A heading's anchor: lower case, punctuation gone, blanks to hyphens.
anchors() { # file
	prose "$1" | sed -nE 's/^#+ +//p' | tr '[:upper:]' '[:lower:]' | sed -e 's/[^a-z0-9 _-]//g' -e 's/ /-/g'
}

links_of() { # file
	prose "$1" | grep -oE '\]\([^)]+\)' | sed -E 's/^\]\(//; s/\)$//' | grep -vE '^[a-z]+://' || :
}

every_link_leads_to_a_file_and_a_heading() {
	local document link file anchor bad=0 count=0
	for document in $(documents); do
		for link in $(links_of "$srcdir/$document"); do
			count=$((count + 1))
			file=${link%%#*}
			anchor=
			[ "$file" = "$link" ] || anchor=${link#*#}
			file=${file:+$(dirname "$document")/$file}
			file=${file:-$document}
			if [ ! -e "$srcdir/$file" ]; then
				echo "$document: there is no $link"
				bad=1
			elif [ -n "$anchor" ] && ! anchors "$srcdir/$file" | grep -qxF -- "$anchor"; then
				echo "$document: $file has no heading #$anchor"
				bad=1
			fi
		done
	done
	[ "$count" -ge 20 ] || { echo "only $count links were found"; return 1; }
	return $bad
}

every_document_of_doc_is_reached_from_the_readme() {
	local seen=" README.md " todo=README.md document next bad=0
	while [ -n "$todo" ]; do
		document=${todo%% *}
		[ "$todo" = "$document" ] && todo= || todo=${todo#* }
		for next in $(links_of "$srcdir/$document"); do
			next=${next%%#*}
			next=$(cd "$srcdir" && realpath -m --relative-to=. "$(dirname "$document")/$next")
			case $next in
			*.md)
				if [[ $seen != *" $next "* ]]; then
					seen+="$next "
					todo+=${todo:+ }$next
				fi
				;;
			esac
		done
	done
	for document in $(documents); do
		[[ $seen == *" $document "* ]] || { echo "$document is not linked to"; bad=1; }
	done
	return $bad
}

every_manual_page_that_is_named_exists() {
	local document page bad=0 count=0
	for document in $(documents) NEWS; do
		while IFS= read -r page; do
			count=$((count + 1))
			compgen -G "$srcdir/man/$page.[0-9]" >/dev/null || { echo "$document: there is no manual page $page"; bad=1; }
		done < <(grep -oE '\bman (-[a-z] )?acctlink[a-z_.]*[a-z]|\bacctlink[a-z_.]*\([1-9]\)' "$srcdir/$document" |
			sed -E 's/^man (-[a-z] )?//; s/\(.*//')
	done
	[ "$count" -ge 3 ] || { echo "only $count were found"; return 1; }
	return $bad
}

# ACCTLINK_NAME anywhere; without the prefix where it is code and alone.
every_status_and_constant_that_is_named_exists() {
	local document name bad=0 count=0 known
	known=$(grep -ohE '\bACCTLINK_[A-Z0-9_]+' "$srcdir"/include/*.h | sort -u)
	for document in $(documents) NEWS; do
		while IFS= read -r name; do
			count=$((count + 1))
			grep -qxE "ACCTLINK_(|EVENT_|REVOCATION_|STATE_|REASON_)${name#ACCTLINK_}" <<<"$known" ||
				{ echo "$document: acctlink.h has no $name"; bad=1; }
		done < <({
			grep -oE '\bACCTLINK_[A-Z0-9_]+\b' "$srcdir/$document" |
				grep -vxE 'ACCTLINK_(CONFIG|PLUGIN|1)'
			prose "$srcdir/$document" | grep -oE '`[A-Z]+_[A-Z_]+`' | tr -d '`' |
				grep -vE '^(CLOCK|LOG|CURLOPT|ACCTLINK|PKG|LD|RTLD|TH|MADV|CREDENTIALS)_|^BUSY_SNAPSHOT$'
		} | sort -u)
	done
	[ "$count" -ge 30 ] || { echo "only $count were found"; return 1; }
	return $bad
}

# acctlinkctl COMMAND in code, against the commands that the program's manual describes.
every_command_that_is_named_exists() {
	local document name bad=0 count=0 known
	known=$(sed -nE 's/^\.(It|Ss) (Ic |Cm |Nm )*([a-z]+)( .*)?$/\3/p' "$srcdir/man/acctlinkctl.1" | sort -u)
	[ -n "$known" ] || { echo 'man/acctlinkctl.1 describes no command'; return 1; }
	for document in $(documents); do
		while IFS= read -r name; do
			count=$((count + 1))
			grep -qxF -- "$name" <<<"$known" || { echo "$document: acctlinkctl has no command '$name'"; bad=1; }
		done < <(grep -oE '\bacctlinkctl (-[a-z-]+ ([^ ]*[./][^ ]* )?)*[a-z]+' "$srcdir/$document" | grep -oE '[a-z]+$' |
			grep -vxE 'is|has|from|for|as|and|in|does|can|of|to|says' | sort -u)
	done
	[ "$count" -ge 10 ] || { echo "only $count were found"; return 1; }
	return $bad
}

# `key` or `key = value` where the key has an underscore, against the table.
every_config_key_that_the_operators_guide_names_exists() {
	local name bad=0 count=0 known
	known=$(grep -oE '\.name = "[a-z_]+"' "$srcdir/plugin/config/config_keys.c" | cut -d'"' -f2 | sort -u)
	[ "$(wc -l <<<"$known")" -ge 60 ] || { echo 'the table of keys was not found'; return 1; }
	while IFS= read -r name; do
		count=$((count + 1))
		grep -qxF -- "$name" <<<"$known" || { echo "there is no key $name"; bad=1; }
	done < <(prose "$srcdir/doc/operator.md" | grep -oE '`[a-z]+_[a-z_]+( = [^`]*)?`' | sed -E 's/`//g; s/ = .*//' |
		grep -vxE 'get_bearer|relink_required|outcome_unknown|rotation_lost|secure_delete' | sort -u)
	[ "$count" -ge 8 ] || { echo "only $count were found"; return 1; }
	return $bad
}

# Files and test names in code: plugin/…, tests/…, tools/…, conf/…, hosts/….
every_path_that_is_named_exists() {
	local document path bad=0 count=0
	for document in $(documents) NEWS; do
		while IFS= read -r path; do
			count=$((count + 1))
			# A glob stands for files of that kind; programs are made by make.
			(cd "$srcdir" && compgen -G "$path" >/dev/null) || grep -qwF "$path" "$srcdir/Makefile.am" ||
				{ echo "$document: there is no $path"; bad=1; }
		done < <(prose "$srcdir/$document" |
			grep -oE '`(\./)?(plugin|tests|tools|conf|hosts|include|doc|man)/[A-Za-z0-9_./*-]+`' | tr -d '`' | sort -u)
	done
	[ "$count" -ge 20 ] || { echo "only $count were found"; return 1; }
	return $bad
}

# Claims of the threat model name tests as `suite: name_of_the_test`.
every_test_that_the_threat_model_names_exists() {
	local name bad=0 count=0
	while IFS= read -r name; do
		count=$((count + 1))
		grep -rqw --include='*.c' --include='*.sh' --include='*.mjs' -- "$name" "$srcdir/tests" ||
			{ echo "there is no test $name"; bad=1; }
	done < <(grep -oE '`[a-z0-9]+(_[a-z0-9]+){3,}`' "$srcdir/doc/threat-model.md" | tr -d '`' | sort -u)
	[ "$count" -ge 20 ] || { echo "only $count were found"; return 1; }
	return $bad
}

no_document_speaks_of_a_machine() {
	local found
	found=$(cd "$srcdir" && grep -nE '/home/|/root/|/work/|(^|[^A-Z_{])/tmp/' ./*.md doc/*.md NEWS) || return 0
	printf '%s\n' "$found"
	return 1
}

news_names_every_exported_function() {
	local name bad=0
	while IFS= read -r name; do
		grep -qw "$name" "$srcdir/NEWS" || { echo "NEWS does not name $name"; bad=1; }
	done < <(sed -n '/global:/,/local:/p' "$srcdir/plugin/abi/acctlink.map" | grep -oE 'acctlink_[a-z0-9_]+')
	return $bad
}

tests='the_c_of_the_readme_compiles
the_c_of_the_integrators_guide_compiles
the_readmes_host_is_the_minimal_host
every_link_leads_to_a_file_and_a_heading
every_document_of_doc_is_reached_from_the_readme
every_manual_page_that_is_named_exists
every_status_and_constant_that_is_named_exists
every_command_that_is_named_exists
every_config_key_that_the_operators_guide_names_exists
every_path_that_is_named_exists
every_test_that_the_threat_model_names_exists
no_document_speaks_of_a_machine
news_names_every_exported_function'

run_tests "$tests"
