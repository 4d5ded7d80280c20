#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Sources the bash completion of acctlinkctl and asks it for completions as bash does when Tab
# is pressed. A small stand-in answers `--json check`; the words themselves are held against
# the built program's --help. Prints TAP.
set -u

# shellcheck source=tests/lib/tap.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/tap.sh"

srcdir=${TH_SRCDIR:-$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)}
builddir=${TH_BUILDDIR:-$srcdir/build}
program=$builddir/tools/acctlinkctl/acctlinkctl

scratch=$(mktemp -d "${TMPDIR:-/tmp}/completion.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# shellcheck source=tools/acctlinkctl/acctlinkctl.bash
. "$srcdir/tools/acctlinkctl/acctlinkctl.bash" || exit 1

# Tells what it was called with; has providers only for the right arguments. Its JSON has a
# name before and inside the list that is no provider's.
cat >"$scratch/acctlinkctl" <<'SH'
#!/bin/sh
echo "$*" >>"${0%/*}/calls"
case $* in
'--json check') first=practice ;;
"--config ${0%/*}/other.conf --json check") first=other ;;
*) exit 5 ;;
esac
cat <<JSON
{
  "config": { "name": "no-provider" },
  "providers": [
    { "name": "$first", "paused": false },
    { "name":"akoya-sandbox", "paused": true }
  ]
}
JSON
SH
chmod +x "$scratch/acctlinkctl"
: >"$scratch/other.conf"
: >"$scratch/tokens one.jsonl"
mkdir "$scratch/others"

# The words given, with the cursor at the end of the last one; prints what is offered, sorted.
offers() { # words
	COMP_WORDS=("$scratch/acctlinkctl" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_acctlinkctl "$scratch/acctlinkctl" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
	printf '%s\n' "${COMPREPLY[@]-}" | sort | tr '\n' ' ' | sed 's/ $//'
}

expect() { # what is wanted, words
	local wanted=$1 got
	shift
	got=$(offers "$@")
	[ "$got" = "$wanted" ] || { printf "'%s' offers '%s', not '%s'\n" "$*" "$got" "$wanted"; return 1; }
}

# ---- the tests -------------------------------------------------------------------------------

it_is_registered_for_acctlinkctl() {
	[ "$(complete -p acctlinkctl)" = 'complete -F _acctlinkctl acctlinkctl' ]
}

commands_are_offered_first() {
	expect 'bearer check forget import init link list pause refresh resume show unlink' '' &&
		expect 'link list' li &&
		expect 'refresh resume' --json re &&
		expect 'unlink' -- un &&
		expect '' nothing
}

the_commands_are_those_of_the_program() {
	local wanted
	wanted=$("$program" --help | sed -nE 's/^  ([a-z]+) .*/\1/p' | sort | tr '\n' ' ')
	[ "$(offers '') " = "$wanted" ] || { echo "--help has '$wanted', '$(offers '')' is offered"; return 1; }
}

each_option_of_the_program_is_offered_and_no_other() {
	local wanted got command
	wanted=$("$program" --help | grep -oE -e '--[a-z-]+' | sort -u)
	got=$(for command in '' $(offers ''); do
		# shellcheck disable=SC2086 # no word for no command
		offers $command --
		echo
	done | tr ' ' '\n' | grep . | sort -u)
	[ "$got" = "$wanted" ] || { diff <(echo "$wanted") <(echo "$got"); return 1; }
}

a_command_has_its_own_options() {
	expect '--config --help --json --timeout --version' -- &&
		expect '--online' check --o &&
		expect '--show' bearer --s &&
		expect '--provider' list --p &&
		expect '--paste' link ana --p &&
		expect '--secret-stdin --store' init --s &&
		expect '' unlink --p &&
		expect '--config --help --json --timeout --version' refresh ana -
}

states_follow_their_option() {
	expect 'linked relink_required stale superseded unlinking' list --state '' &&
		expect 'stale superseded' list ana --state s &&
		expect 'relink_required' list --state = r &&
		expect 'linked relink_required stale superseded unlinking' list --state =
}

the_states_are_those_of_acctlink_h() {
	local wanted
	wanted=$(sed -nE 's/^\t(ACCTLINK_STATE_|ACCTLINK_LINK_)([A-Z_]+) = .*/\2/p' "$srcdir/include/acctlink.h" |
		tr '[:upper:]' '[:lower:]' | sort | tr '\n' ' ')
	[ -n "$wanted" ] || { echo 'acctlink.h has no states'; return 1; }
	expect "${wanted% }" list --state ''
}

profiles_follow_their_option() {
	expect 'akoya oauth2 oidc' init --profile '' &&
		expect 'oauth2 oidc' init --profile = o
}

users_of_the_machine_follow_owner() {
	expect root init --owner roo
}

providers_are_those_of_the_config() {
	local command
	for command in link show bearer refresh unlink; do
		expect 'akoya-sandbox practice' "$command" ana '' || return 1
	done
	for command in import pause resume; do
		expect 'akoya-sandbox practice' "$command" '' || return 1
	done
	expect practice show ana pr &&
		expect practice list --provider p &&
		expect practice list --provider = p &&
		expect akoya-sandbox --json -t 5 show --timeout 5 ana a
}

the_config_named_on_the_line_is_asked() {
	expect other -c "$scratch/other.conf" pause o &&
		expect other pause --config "$scratch/other.conf" o &&
		expect other --config = "$scratch/other.conf" show ana o &&
		expect other -c "\"$scratch/other.conf\"" pause o &&
		HOME=$scratch expect other -c "~""/other.conf" pause o
}

a_config_that_can_not_be_read_offers_nothing() {
	expect '' -c /nowhere pause ''
}

users_and_institutions_are_not_guessed() {
	: >"$scratch/calls"
	expect '' show '' && expect '' show ana practice '' && expect '' forget '' && expect '' list '' || return 1
	[ ! -s "$scratch/calls" ] || { echo 'the program was asked for nothing'; return 1; }
}

files_follow_config_and_import() {
	expect "$scratch/other.conf $scratch/others" -c "$scratch/other" &&
		expect "$scratch/other.conf $scratch/others" check --config = "$scratch/other" &&
		expect "$scratch/tokens one.jsonl" import practice "$scratch/tok" &&
		expect "$scratch/others" init --store "$scratch/o"
}

a_value_is_taken_for_no_command() {
	expect 'bearer' -c check be &&
		expect '' --timeout 5 --redirect-uri ''
}

# shellcheck disable=SC2016 # the dollar signs are meant as they stand
what_is_offered_can_be_run_as_it_stands() {
	local name='a$(touch gone);b'
	sed -i "s/first=practice/first='$name'/" "$scratch/acctlinkctl"
	(
		cd "$scratch" || exit 1
		word=$(offers pause 'a$')
		eval "set -- $word"
		if [ "$1" != "$name" ] || [ -e gone ]; then
			echo "the shell reads '$word' as '$*'"
			exit 1
		fi
	)
}

nothing_is_said_on_stderr_and_no_option_of_the_shell_matters() {
	local said
	said=$({
		set -eu
		shopt -s nullglob failglob
		IFS=:
		offers list --state '' >/dev/null
		offers show ana '' >/dev/null
	} 2>&1)
	[ -z "$said" ] || { echo "$said"; return 1; }
}

tests='it_is_registered_for_acctlinkctl
commands_are_offered_first
the_commands_are_those_of_the_program
each_option_of_the_program_is_offered_and_no_other
a_command_has_its_own_options
states_follow_their_option
the_states_are_those_of_acctlink_h
profiles_follow_their_option
users_of_the_machine_follow_owner
providers_are_those_of_the_config
the_config_named_on_the_line_is_asked
a_config_that_can_not_be_read_offers_nothing
users_and_institutions_are_not_guessed
files_follow_config_and_import
a_value_is_taken_for_no_command
what_is_offered_can_be_run_as_it_stands
nothing_is_said_on_stderr_and_no_option_of_the_shell_matters'

[ -x "$program" ] || { echo "Bail out! $program is missing"; exit 1; }
run_tests "$tests"
