/* SPDX-License-Identifier: MIT
 * The one stylesheet. Colours are variables, so that light, dark and each bank's
 * tint are only other values of them; every text has a contrast of 4.5 or more.
 */
#include "pages.h"

#include <stdlib.h>

static const char colours[] =
	":root {\n"
	"	color-scheme: light dark;\n"
	"	--page: #f3f4f7; --card: #ffffff; --ink: #1a1f29; --soft: #545e6e; --line: #d5dae2; --field: #7b8596;\n"
	"	--hush: #eceff4; --bad: #a3162a; --bad-page: #fdeef0; --tint: #2d3a52; --glow: #b3c3e4;\n"
	"}\n"
	"body, [class*=\"bank-\"] { --accent: var(--tint); }\n"
	"@media (prefers-color-scheme: dark) {\n"
	"	:root {\n"
	"		--page: #10131a; --card: #1a1f29; --ink: #e8ebf1; --soft: #a7b0bf; --line: #323a48; --field: #7d899c;\n"
	"		--hush: #232a36; --bad: #ff9aa6; --bad-page: #38191f;\n"
	"	}\n"
	"	body, [class*=\"bank-\"] { --accent: var(--glow); }\n"
	"}\n";

static const char rules[] =
	"*, *::before, *::after { box-sizing: border-box; }\n"
	"html { -webkit-text-size-adjust: 100%; }\n"
	"body {\n"
	"	margin: 0; min-height: 100vh; background: var(--page); color: var(--ink);\n"
	"	font: 1rem/1.55 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", \"DejaVu Sans\", sans-serif;\n"
	"}\n"
	"h1 { margin: 0 0 .5rem; font-size: 1.65rem; line-height: 1.2; letter-spacing: -.012em; text-wrap: balance; }\n"
	"h2 { margin: 0 0 .8rem; font-size: 1.12rem; line-height: 1.3; }\n"
	"p { margin: 0 0 1rem; }\n"
	"a { color: var(--accent); text-underline-offset: .18em; }\n"
	"code { font: .92em/1.4 ui-monospace, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; overflow-wrap: anywhere; }\n"
	":focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 4px; }\n"
	".brand :focus-visible { outline-color: #fff; }\n"
	".unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);"
	" white-space: nowrap; }\n"
	".lead { color: var(--soft); font-size: 1.06rem; }\n"
	".lead b, .lead strong { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }\n"

	/* The bank's side: a band on top of a phone, a column beside on a desk. */
	".brand { position: relative; overflow: hidden; padding: 1rem 1.25rem; color: #fff; background: var(--tint);\n"
	"	display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1rem; }\n"
	".brand p { margin: 0; }\n"
	".sign { display: flex; align-items: center; gap: .7rem; font-weight: 650; font-size: 1.08rem; }\n"
	".logo { display: grid; place-items: center; width: 2.5rem; height: 2.5rem; flex: none; border-radius: .7rem;\n"
	"	background: #fff; color: var(--tint); }\n"
	".logo svg { width: 1.6rem; height: 1.6rem; }\n"
	".motto { display: none; }\n"
	".practice { font-size: .84rem; color: #fff; }\n"
	".split .practice { order: 1; }\n"
	/* On a phone only the number of the step is seen; everything is there for a screen reader. */
	".steps { order: 2; position: relative; list-style: none; counter-reset: step; margin: 0 0 0 auto; padding: 0; }\n"
	".steps li { counter-increment: step; }\n"
	".steps li:not([aria-current]), .steps li span { position: absolute; width: 1px; height: 1px; overflow: hidden;\n"
	"	clip-path: inset(50%); white-space: nowrap; }\n"
	".steps li[aria-current] { font-size: .84rem; }\n"
	".steps li[aria-current]::before { content: \"Step \" counter(step) \" of 3\"; }\n"
	"main { width: 100%; max-width: 34rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }\n"
	"@media (min-width: 56rem) {\n"
	"	.split { display: grid; grid-template-columns: minmax(19rem, 34%) 1fr; }\n"
	"	.split .brand { flex-direction: column; flex-wrap: nowrap; align-items: flex-start; gap: 0;\n"
	"		padding: 2.5rem; background: linear-gradient(160deg, rgb(0 0 0 / 0), rgb(0 0 0 / .3)) var(--tint); }\n"
	"	.split .motto { display: block; margin: 3.5rem 0 2.5rem; font-size: 2rem; line-height: 1.18; font-weight: 650;\n"
	"		letter-spacing: -.02em; text-wrap: balance; }\n"
	"	.split .practice { order: 3; margin-top: auto; }\n"
	"	.split .steps { margin: 0; display: grid; gap: 1rem; }\n"
	"	.split .steps li { position: static; width: auto; height: auto; overflow: visible; clip-path: none;\n"
	"		display: flex; align-items: center; gap: .8rem; font-size: 1rem; }\n"
	"	.split .steps li span:first-child { position: static; width: auto; height: auto; clip-path: none; }\n"
	"	.split .steps li::before, .split .steps li[aria-current]::before { content: counter(step); flex: none;\n"
	"		display: grid; place-items: center; width: 1.9rem; height: 1.9rem; border-radius: 50%;\n"
	"		border: 2px solid rgb(255 255 255 / .7); font-size: .9rem; font-weight: 650; }\n"
	"	.split .steps li[aria-current] { font-weight: 650; }\n"
	"	.split .steps li[aria-current]::before, .split .steps .done::before { background: #fff; border-color: #fff;\n"
	"		color: var(--tint); }\n"
	"	.split .steps .done::before { content: \"\\2713\"; }\n"
	"	.split main { align-self: center; padding: 3rem 2.5rem; }\n"
	"}\n"

	/* Forms. */
	"form { margin: 0; }\n"
	".field { margin: 0 0 1.15rem; }\n"
	".field label { display: block; margin-bottom: .3rem; font-weight: 600; }\n"
	".field input { display: block; width: 100%; min-height: 3rem; padding: .55rem .85rem; border-radius: .6rem;\n"
	"	border: 1px solid var(--field); background: var(--card); color: var(--ink); font: inherit; }\n"
	".field input:focus-visible { outline-offset: 1px; border-radius: .6rem; }\n"
	".field input[aria-invalid] { border-color: var(--bad); }\n"
	".hint { margin: .35rem 0 0; font-size: .9rem; color: var(--soft); }\n"
	".acts + .hint, form + .hint { margin-top: 1.25rem; }\n"
	"button, .button { display: inline-flex; align-items: center; justify-content: center; min-height: 3rem;\n"
	"	padding: .6rem 1.4rem; border-radius: .6rem; border: 1px solid transparent; font: inherit; font-weight: 650;\n"
	"	line-height: 1.2; cursor: pointer; text-decoration: none; }\n"
	".main { background: var(--tint); color: #fff; }\n"
	".main:hover { box-shadow: inset 0 0 0 99px rgb(0 0 0 / .16); }\n"
	".quiet { background: transparent; color: var(--ink); border-color: var(--field); }\n"
	".quiet:hover { background: var(--hush); }\n"
	"button:focus-visible, .button:focus-visible { border-radius: .6rem; }\n"
	"@media (prefers-color-scheme: dark) { .main { border-color: var(--glow); } }\n"
	".acts { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }\n"
	".acts form { display: contents; }\n"
	".note { margin: 0 0 1.25rem; padding: .8rem 1rem; border-radius: .6rem; background: var(--hush);\n"
	"	font-size: .95rem; }\n"
	".note p:last-child { margin: 0; }\n"
	".alert { margin: 0 0 1.25rem; padding: .8rem 1rem; border-radius: .6rem; border-left: 4px solid var(--bad);\n"
	"	background: var(--bad-page); color: var(--bad); font-weight: 600; }\n"

	/* Accounts: rows that are one big label each. */
	".rows { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); border-radius: .8rem;\n"
	"	background: var(--card); overflow: hidden; }\n"
	".rows li + li { border-top: 1px solid var(--line); }\n"
	".rows label, .row { display: grid; grid-template-columns: auto 1fr auto; align-items: center; gap: .2rem .9rem;\n"
	"	padding: .9rem 1.1rem; }\n"
	".row { grid-template-columns: 1fr auto; }\n"
	".rows label { cursor: pointer; }\n"
	".rows label:hover { background: var(--hush); }\n"
	".rows input { width: 1.25rem; height: 1.25rem; margin: 0; accent-color: var(--tint); }\n"
	"@media (prefers-color-scheme: dark) { .rows input { accent-color: var(--glow); } }\n"
	".what b { display: block; font-weight: 600; }\n"
	".what small { display: block; color: var(--soft); font-size: .88rem; }\n"
	".sum { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; }\n"
	"fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }\n"
	"legend { padding: 0; margin-bottom: .5rem; font-weight: 600; }\n"

	/* Consent: what is asked for, in a list of terms. */
	".terms { margin: 0 0 1rem; border: 1px solid var(--line); border-radius: .8rem; background: var(--card); }\n"
	".terms > div { padding: .85rem 1.1rem; }\n"
	".terms > div + div { border-top: 1px solid var(--line); }\n"
	".terms dt { font-size: .88rem; color: var(--soft); }\n"
	".terms dd { margin: 0; overflow-wrap: anywhere; }\n"
	".terms ul { margin: 0; padding: 0; list-style: none; }\n"

	/* The start page. */
	".wide main { max-width: 68rem; padding-top: 2.5rem; }\n"
	".wide .practice { margin-left: auto; }\n"
	".wide .text { max-width: 44rem; }\n"
	".banks { list-style: none; margin: 0 0 2.5rem; padding: 0; display: grid; gap: 1rem;\n"
	"	grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }\n"
	".banks > li { display: flex; flex-direction: column; border: 1px solid var(--line); border-radius: .9rem;\n"
	"	background: var(--card); padding: 1.2rem; }\n"
	".banks .sign { margin: 0 0 .75rem; font-size: 1rem; font-weight: 400; }\n"
	".banks .logo { background: var(--tint); color: #fff; }\n"
	".banks small { display: block; color: var(--soft); font-size: .88rem; font-weight: 400; }\n"
	".banks .about { flex: 1; }\n"
	".habits { margin: 0 0 1rem; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .35rem; }\n"
	".habits li { padding: .1rem .5rem; border-radius: .4rem; background: var(--hush); font-size: .82rem; }\n"
	".banks .button { align-self: flex-start; min-height: 2.75rem; padding: .5rem 1.1rem; }\n"
	".plain { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }\n"
	".plain th, .plain td { padding: .6rem .9rem; text-align: left; vertical-align: top;\n"
	"	border-top: 1px solid var(--line); }\n"
	".plain tr:first-child > * { border-top: 0; }\n"
	".plain th { width: 1%; white-space: nowrap; font-weight: 600; }\n"
	"section { margin-top: 2rem; }\n"
	"@media (forced-colors: active) { .logo, .main { border: 1px solid; } }\n";

char *pp_style(void)
{
	struct pp_draft style = { NULL, 0, 0 };

	pp_draft_add(&style, colours);
	pp_draft_add(&style, rules);
	json_object_object_foreach(pp_institutions(), name, institution)
	{
		char *rule = pp_printf(".bank-%s { --tint: %s; --glow: %s; }\n", name,
			pp_text(institution, "tint", "#333"), pp_text(institution, "glow", "#ccc"));

		pp_draft_add(&style, rule);
		free(rule);
	}
	return style.text;
}
