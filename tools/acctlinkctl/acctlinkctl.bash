# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of acctlinkctl in bash: commands, options, providers, states and files. Source it,
# or install it as share/bash-completion/completions/acctlinkctl. The providers come from
# `acctlinkctl --json check`; where that fails, none are offered.

_acctlinkctl_commands='init check link list show bearer refresh unlink forget import pause resume'

# The options of a command, besides those that each command takes.
_acctlinkctl_options() { # command
	case $1 in
	init) echo '--owner --profile --name --issuer --client-id --redirect-uri --store --secret-stdin' ;;
	check) echo '--online' ;;
	link) echo '--paste --redirect-uri' ;;
	list) echo '--provider --state' ;;
	bearer) echo '--show' ;;
	esac
	echo '--config --json --timeout --help --version'
}

_acctlinkctl_takes_a_value() { # word
	case $1 in
	-c | --config | -t | --timeout | --owner | --profile | --name | --issuer | --client-id | --redirect-uri | \
		--store | --provider | --state) ;;
	*) false ;;
	esac
}

# The names in the array "providers" of what `check --json` prints. Other strings are taken
# out by their members' names, so a name may have any letter but a quote.
_acctlinkctl_providers() { # program, config or nothing
	local -a args=(--json check)
	[ -z "$2" ] || args=(--config "$2" "${args[@]}")
	"$1" "${args[@]}" 2>/dev/null </dev/null | tr -d '\n' |
		sed -n 's/.*"providers"[[:space:]]*:[[:space:]]*\[\(.*\)/\1/p' |
		grep -oE '"name"[[:space:]]*:[[:space:]]*"[^"\\]*"' | sed 's/.*:[[:space:]]*"\(.*\)"$/\1/'
}

# Offers the words that begin as the one at the cursor, one a line in $1.
_acctlinkctl_offer() { # words, word at the cursor
	local word
	while IFS= read -r word; do
		case $word in
		'') ;;
		"$2"*) COMPREPLY+=("$(printf '%q' "$word")") ;;
		esac
	done <<<"$1"
}

_acctlinkctl_files() { # option of compgen, word at the cursor
	local word
	compopt -o filenames 2>/dev/null
	while IFS= read -r word; do
		COMPREPLY+=("$word")
	done < <(compgen "$1" -- "$2")
}

# bash cuts "--state=active" into three words; the value is completed as if it stood alone.
_acctlinkctl_value() { # option, word at the cursor, program, config
	case $1 in
	-c | --config) _acctlinkctl_files -f "$2" ;;
	--store) _acctlinkctl_files -d "$2" ;;
	--owner) _acctlinkctl_offer "$(compgen -u)" "$2" ;;
	--profile) _acctlinkctl_offer $'akoya\noidc\noauth2' "$2" ;;
	--state) _acctlinkctl_offer "$_acctlinkctl_states" "$2" ;;
	--provider) _acctlinkctl_offer "$(_acctlinkctl_providers "$3" "$4")" "$2" ;;
	esac
}

_acctlinkctl_argument() { # command, its arguments before the cursor, word at the cursor, program, config
	case $1:$2 in
	import:0 | pause:0 | resume:0) _acctlinkctl_offer "$(_acctlinkctl_providers "$4" "$5")" "$3" ;;
	link:1 | show:1 | bearer:1 | refresh:1 | unlink:1) _acctlinkctl_offer "$(_acctlinkctl_providers "$4" "$5")" "$3" ;;
	import:1) _acctlinkctl_files -f "$3" ;;
	esac
}

_acctlinkctl_states=$'linked\nstale\nrelink_required\nsuperseded\nunlinking'

_acctlinkctl() {
	local program=$1 current=${COMP_WORDS[COMP_CWORD]} command='' config='' option='' word i count=0 plain=
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [ "$word" = = ] && [ -n "$option" ]; then
			continue
		elif [ -n "$option" ]; then
			case $option in
			-c | --config) config=$word ;;
			esac
			option=
		elif [ -z "$plain" ] && [ "$word" = -- ]; then
			plain=1
		elif [ -z "$plain" ] && _acctlinkctl_takes_a_value "$word"; then
			option=$word
		elif [ -n "$plain" ] || [[ $word != -?* ]]; then
			if [ -z "$command" ]; then
				command=$word
			else
				count=$((count + 1))
			fi
		fi
	done
	# A path may be written with quotes, or with a tilde, that the shell takes away.
	config=${config//[\"\'\\]/}
	config=${config/#\~\//$HOME/}
	if [ -n "$option" ]; then
		[ "$current" != = ] || current=
		_acctlinkctl_value "$option" "$current" "$program" "$config"
	elif [ -z "$plain" ] && [[ $current == -* ]]; then
		_acctlinkctl_offer "$(_acctlinkctl_options "$command" | tr ' ' '\n')" "$current"
	elif [ -z "$command" ]; then
		_acctlinkctl_offer "$(tr ' ' '\n' <<<"$_acctlinkctl_commands")" "$current"
	else
		_acctlinkctl_argument "$command" "$count" "$current" "$program" "$config"
	fi
}

complete -F _acctlinkctl acctlinkctl
