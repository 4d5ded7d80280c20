// SPDX-License-Identifier: MIT
// What a person does in a browser, from the host's page to the bank and back, and what may
// go wrong on the way. Each test has a provider, a host, a store and browsers of its own.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { look } from './looks.mjs';
import { explain, runAll, test } from './tap.mjs';
import { Visitor } from './visitor.mjs';
import { pinnedKey, World } from './world.mjs';

const { values, positionals } = parseArgs({ options: { keep: { type: 'string' } }, allowPositionals: true });
if (values.keep) process.env.TH_KEEP = values.keep;

let browser;

// A test with a world of its own. `visit` opens a browser that shares nothing with others.
function inWorld(name, options, run) {
	test(name, async () => {
		const world = await World.open(options);
		const visitors = [];
		const visit = async (context) => {
			const visitor = await Visitor.open(browser, world, context);
			visitors.push(visitor);
			return visitor;
		};

		try {
			await run(world, await visit(), visit);
			for (const visitor of visitors) await visitor.close();
		} catch (error) {
			const scenes = await Promise.all(visitors.map((visitor) => visitor.scene().catch(() => '')));
			await Promise.all(visitors.map((visitor) => visitor.context.close().catch(() => {})));
			await world.close().catch(() => {});
			throw new Error(`${error.stack}\n${scenes.join('\n')}\n${world.host.log}${world.bank.log}`);
		}
		await world.close();
	});
}

const aliveGrants = async (world) => (await world.ledger()).grants.filter((grant) => grant.alive);

// ---- linking -----------------------------------------------------------------------------

inWorld('an account is linked with nothing but the keyboard', {}, async (world, ana) => {
	const page = await ana.newPage();

	await ana.press(page, page.getByRole('button', { name: 'ana' }));
	await ana.state(page, 'mikomo', 'none');
	await ana.press(page, ana.act(page, 'mikomo', /^Link/));
	await ana.type(page, page.getByLabel('Login'), 'ana');
	await ana.type(page, page.getByLabel('Password'), 'any');
	await page.keyboard.press('Enter');

	const boxes = page.getByRole('checkbox');
	await boxes.first().waitFor();
	const all = await boxes.count();
	const left = (await page.getByRole('listitem').last().locator('b').textContent()).trim();
	assert.ok(all >= 3);
	await ana.press(page, boxes.last(), 'Space');
	await ana.press(page, page.getByRole('button', { name: 'Continue' }));
	await page.getByRole('heading', { level: 1, name: 'Allow access?' }).waitFor();
	await ana.press(page, page.getByRole('button', { name: 'Allow', exact: true }));

	await ana.state(page, 'mikomo', 'linked');
	await ana.flashed(page, 'ok', 0);
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-generation'), '1');
	assert.ok(!page.url().includes('code='), `the code stays in the address: ${page.url()}`);
	assert.equal(await world.count('token', 'authorization_code'), 1);
	assert.equal((await aliveGrants(world)).length, 1);

	await ana.press(page, ana.act(page, 'mikomo', /Accounts/));
	await page.locator('[data-account]').first().waitFor();
	assert.equal(await page.locator('[data-account]').count(), all - 1);
	assert.ok(!(await page.locator('main').textContent()).includes(left), 'an account is shown that was not chosen');
});

inWorld('who says no at the bank is told so, stays unlinked and can try again', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.begin(page, 'mikomo');
	await ana.toConsent(page, 'ana');
	await ana.answer(page, 'Deny');
	await ana.flashed(page, 'error', 202);
	await ana.state(page, 'mikomo', 'none');

	await ana.begin(page, 'mikomo');
	await ana.answer(page, 'Cancel');
	await ana.flashed(page, 'error', 202);
	await ana.state(page, 'mikomo', 'none');
	assert.equal(await world.count('token'), 0);

	await ana.link(page, 'mikomo');
	assert.equal(await world.count('token'), 1);
});

inWorld('reload, back and forward on the callback change nothing', {}, async (world, ana) => {
	const page = await ana.signIn('ana');
	const callbacks = [];

	page.on('request', (request) => {
		if (request.url().startsWith(`${world.hostUrl}/callback`)) callbacks.push(request.url());
	});
	await ana.link(page, 'mikomo');
	assert.equal(callbacks.length, 1);
	await page.reload();
	await ana.state(page, 'mikomo', 'linked');

	await page.goto(callbacks[0]);
	await ana.state(page, 'mikomo', 'linked');
	await ana.flashed(page, 'ok', 0);

	do await page.goBack(); while (page.url().startsWith(world.hostUrl));
	await page.getByRole('heading', { level: 1, name: 'You have answered already' }).waitFor();
	await page.goForward();
	await ana.state(page, 'mikomo', 'linked');
	await page.reload();
	await ana.state(page, 'mikomo', 'linked');
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-generation'), '1');
	assert.equal(await world.count('token'), 1, 'the code was sent once');
	assert.equal((await aliveGrants(world)).length, 1);
});

for (const order of ['first', 'last']) {
	inWorld(`two tabs link two banks at once, and the one that began ${order} ends first`, {}, async (world, ana) => {
		const one = await ana.signIn('ana');
		const two = await ana.newPage();

		await ana.begin(one, 'mikomo');
		await ana.begin(two, 'heronmere');
		await ana.toConsent(one, 'ana');
		await ana.toConsent(two, 'ben');
		const tabs = [[one, 'mikomo'], [two, 'heronmere']];
		for (const [page, bank] of order === 'first' ? tabs : tabs.reverse()) {
			await ana.answer(page, 'Allow');
			await ana.state(page, bank, 'linked');
			await ana.flashed(page, 'ok', 0);
		}
		await one.goto(world.hostUrl);
		await ana.state(one, 'mikomo', 'linked');
		await ana.state(one, 'heronmere', 'linked');
		assert.deepEqual((await aliveGrants(world)).map((grant) => grant.connector).sort(), ['heronmere', 'mikomo']);
	});
}

inWorld('two tabs that link one bank end as one link with one grant', {}, async (world, ana) => {
	const one = await ana.signIn('ana');
	const two = await ana.newPage();

	await ana.begin(one, 'mikomo');
	await ana.begin(two, 'mikomo');
	await ana.consent(two, 'ana');
	await ana.flashed(two, 'ok', 0);
	await ana.consent(one, 'ana');
	await ana.flashed(one, 'ok', 0);
	await ana.state(one, 'mikomo', 'linked');
	assert.equal(await ana.card(one, 'mikomo').getAttribute('data-epoch'), '2');
	assert.equal((await aliveGrants(world)).length, 1);
	await ana.act(one, 'mikomo', /Accounts/).click();
	await one.locator('[data-account]').first().waitFor();
});

inWorld('a callback pasted into another browser links nothing there, and does no harm', {},
	async (world, ana, visit) => {
		const page = await ana.signIn('ana');

		await ana.begin(page, 'mikomo');
		const callback = await ana.consentWithoutCallback(page, 'ana');

		// Another user, the same user, and nobody, each in a browser that did not begin.
		for (const user of ['ben', 'ana']) {
			const other = await visit();
			const theirs = await other.signIn(user);
			await theirs.goto(callback);
			await other.flashed(theirs, 'error', 104);
			await other.state(theirs, 'mikomo', 'none');
		}
		const nobody = await visit();
		const start = await nobody.context.newPage();
		await start.goto(callback);
		await start.getByRole('heading', { level: 1 }).waitFor();
		assert.equal(await world.count('token'), 0, 'no code was sent');

		await page.goto(callback);
		await ana.state(page, 'mikomo', 'linked');
		assert.equal(await world.count('token'), 1);
	});

inWorld('who signs out on the way finishes after signing in again', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.begin(page, 'mikomo');
	const callback = await ana.consentWithoutCallback(page, 'ana');
	const other = await ana.newPage();
	await other.getByRole('button', { name: 'Sign out' }).click();
	await other.getByRole('button', { name: 'ana' }).waitFor();
	await page.goto(callback);
	await ana.flashed(page, 'error', 104);
	assert.equal(await world.count('token'), 0);

	await other.getByRole('button', { name: 'ana' }).click();
	await ana.state(other, 'mikomo', 'none');
	await page.goto(callback);
	await ana.state(page, 'mikomo', 'linked');
});

// ---- form_post ---------------------------------------------------------------------------

const formPost = 'response_mode = "form_post";';

for (const hostScheme of ['http', 'https']) {
	inWorld(`a form_post from the bank's site brings the link, host on ${hostScheme}`, { hostScheme, lines: formPost },
		async (world, ana) => {
			const page = await ana.signIn('ana');

			await ana.link(page, 'mikomo');
			await ana.flashed(page, 'ok', 0);
			assert.ok(!page.url().includes('code='));
			const [first] = ana.posts.filter((request) => request.url() === `${world.hostUrl}/callback`);
			const headers = await first.allHeaders();
			assert.equal(headers['sec-fetch-site'], 'cross-site');
			assert.match(headers.cookie ?? '', /acctlink-/, 'the cookie of the flow came along');
			assert.equal(await world.count('token'), 1);
		});
}

inWorld('a form_post brings the link in a browser without scripts', { lines: formPost }, async (world, _, visit) => {
	const ana = await visit({ javaScriptEnabled: false });
	const page = await ana.signIn('ana');

	await ana.begin(page, 'mikomo');
	await ana.toConsent(page, 'ana');
	await ana.answer(page, 'Allow');
	// The bank's page, then the host's: each has a button that sends the form on.
	await page.getByRole('button').click();
	await page.waitForURL(`${world.hostUrl}/**`);
	await look(page, 'host-one-moment');
	await page.getByRole('button', { name: 'Continue' }).click();
	await ana.state(page, 'mikomo', 'linked');
	assert.equal(await world.count('token'), 1);
});

inWorld('a denial by form_post is told as one', { lines: formPost }, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.begin(page, 'mikomo');
	await ana.toConsent(page, 'ana');
	await ana.answer(page, 'Deny');
	await ana.flashed(page, 'error', 202);
	await ana.state(page, 'mikomo', 'none');
});

// ---- a link's life -------------------------------------------------------------------------

inWorld('a renewed consent keeps the link, with a new epoch', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.link(page, 'mikomo');
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-epoch'), '1');
	await ana.begin(page, 'mikomo', /^Renew/);
	await ana.consent(page, 'ana');
	await ana.flashed(page, 'ok', 0);
	await ana.state(page, 'mikomo', 'linked');
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-epoch'), '2');
	assert.equal((await aliveGrants(world)).length, 1);
});

inWorld('a renewal with another bank login leaves the link as it was', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.link(page, 'mikomo');
	await ana.begin(page, 'mikomo', /^Renew/);
	await ana.consent(page, 'ben');
	await ana.flashed(page, 'error', 205);
	await ana.state(page, 'mikomo', 'linked');
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-epoch'), '1');
	await ana.act(page, 'mikomo', /Accounts/).click();
	await page.locator('[data-account]').first().waitFor();
});

inWorld('an unlinked account is revoked at the bank, and its bearer is no good', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.link(page, 'mikomo');
	const { tokens } = await world.ledger();
	const bearer = await world.raw(tokens.find((token) => token.kind === 'id').hash);
	assert.equal(await world.askAccounts('mikomo', bearer), 200);

	await ana.act(page, 'mikomo', /^Unlink/).click();
	await ana.flashed(page, 'ok', 0);
	await ana.state(page, 'mikomo', 'none');
	const [grant] = (await world.ledger()).grants;
	assert.equal(grant.alive, false);
	assert.equal(grant.ended_why, 'revoked');
	assert.equal(await world.askAccounts('mikomo', bearer), 401);

	await page.goto(`${world.hostUrl}/accounts?institution=mikomo`);
	assert.equal(await page.locator('[data-account]').count(), 0);
	await ana.link(await ana.newPage(), 'mikomo');
});

inWorld('a bearer that the bank refuses is refreshed once, and the accounts are shown', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.link(page, 'mikomo');
	await world.say({ kill_bearers: true });
	await ana.act(page, 'mikomo', /Accounts/).click();
	await page.locator('[data-account]').first().waitFor();
	assert.equal(await world.count('token', 'refresh_token'), 1);
	assert.equal(await world.count('api'), 2);
	await page.goto(world.hostUrl);
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-generation'), '2');

	await ana.act(page, 'mikomo', /^Refresh/).click();
	await ana.flashed(page, 'ok', 0);
	assert.equal(await ana.card(page, 'mikomo').getAttribute('data-generation'), '3');
	assert.equal(await world.count('token', 'refresh_token'), 2);
});

inWorld('a grant that ended at the bank asks for a new consent, which heals the link', {}, async (world, ana) => {
	const page = await ana.signIn('ana');

	await ana.link(page, 'mikomo');
	await world.say({ kill_grant: 'all' });
	await ana.act(page, 'mikomo', /Accounts/).click();
	await ana.flashed(page, 'error', 201);
	await page.goto(world.hostUrl);
	await ana.state(page, 'mikomo', 'relink-required');
	assert.match(await ana.card(page, 'mikomo').textContent(), /consent/i);

	await ana.begin(page, 'mikomo', /^(Link|Renew)/);
	await ana.consent(page, 'ana');
	await ana.state(page, 'mikomo', 'linked');
	await ana.act(page, 'mikomo', /Accounts/).click();
	await page.locator('[data-account]').first().waitFor();
});

inWorld('a bank that is down is said plainly, and the same callback works when it is up again', {},
	async (world, ana) => {
		const page = await ana.signIn('ana');

		await ana.begin(page, 'mikomo');
		const callback = await ana.consentWithoutCallback(page, 'ana');
		await world.say({ down: true });
		await page.goto(callback);
		const words = await ana.flashed(page, 'error', 301);
		assert.match(words, /bank|provider/i);
		await ana.state(page, 'mikomo', 'none');

		await world.say({ down: false });
		await page.goto(callback);
		await ana.state(page, 'mikomo', 'linked');

		await world.say({ down: true });
		await ana.act(page, 'mikomo', /Accounts/).click();
		await ana.flashed(page, 'error');
		assert.equal(await page.locator('[data-account]').count(), 0);
		await page.goto(world.hostUrl);
		await ana.state(page, 'mikomo', 'linked');
		await world.say({ down: false });
		await ana.act(page, 'mikomo', /Accounts/).click();
		await page.locator('[data-account]').first().waitFor();
	});

// ---- between people and sites ---------------------------------------------------------------

inWorld("nobody sees or ends another user's link", {}, async (world, ana, visit) => {
	const page = await ana.signIn('ana');
	const ben = await visit();

	await ana.link(page, 'mikomo');
	const theirs = await ben.signIn('ben');
	await ben.state(theirs, 'mikomo', 'none');
	await theirs.goto(`${world.hostUrl}/accounts?institution=mikomo`);
	assert.equal(await theirs.locator('[data-account]').count(), 0);
	await page.reload();
	await ana.state(page, 'mikomo', 'linked');

	await page.getByRole('button', { name: 'Sign out' }).click();
	await page.getByRole('button', { name: 'ben' }).waitFor();
	await page.goBack();
	await page.getByRole('button', { name: 'ben' }).waitFor();
	assert.equal(await page.locator('[data-institution]').count(), 0, 'Back shows what was signed out of');
});

inWorld('a form on another site can neither unlink nor begin a link', {}, async (world, ana) => {
	const page = await ana.signIn('ana');
	const evil = 'https://elsewhere.example';

	ana.strangers.add(evil);
	await ana.link(page, 'mikomo');
	const html = (action) => `<!doctype html><form method="post" action="${world.hostUrl}${action}">
		<input name="institution" value="mikomo"><button>Win</button></form>`;
	for (const action of ['/unlink', '/link', '/renew']) {
		const trap = await ana.context.newPage();
		await trap.route(`${evil}/**`, (route) => route.fulfill({ contentType: 'text/html', body: html(action) }));
		await trap.goto(`${evil}/`);
		const answer = trap.waitForResponse((response) => response.url().startsWith(world.hostUrl));
		await trap.getByRole('button').click();
		assert.ok((await answer).status() >= 400, `${action}: ${(await answer).status()}`);
		await trap.close();
	}
	await page.goto(world.hostUrl);
	await ana.state(page, 'mikomo', 'linked');
	assert.equal(await world.count('auth'), 1);
	assert.equal(await world.count('revoke'), 0);
});

// ---- how it looks ---------------------------------------------------------------------------

test('the check of pages finds what is wrong with a bad page', async () => {
	const page = await (await browser.newContext()).newPage();
	const good = `<!doctype html><html lang="en"><title>Good</title><style>input, button { min-height: 2rem }
		:focus-visible { outline: 3px solid navy }</style><body><main><h1>Good</h1><form><label>Name <input></label>
		<button>Send</button></form></main>`;
	const cases = [
		['lang="en"', '', /no language/], ['<h1>Good</h1>', '<h1>Good</h1><h1>Again</h1>', /2 h1/],
		['<h1>Good</h1>', '<h1>Good</h1><h3>Deep</h3>', /h3 follows h1/],
		['<label>Name <input></label>', '<input name="n">', /no label/],
		['<button>Send</button>', '<button></button>', /no name/],
		['<h1>Good</h1>', '<h1>Good</h1><p style="color: #999">Pale</p>', /contrast of 2/],
		['<h1>Good</h1>', '<h1>Good</h1><p style="width: 50rem">Wide</p>', /wide in a window/],
		['outline: 3px solid navy', 'outline: none', /focus is not seen/],
		['<h1>Good</h1>', '<h1 id="a">Good</h1><p id="a">', /twice/],
	];

	await page.setContent(good);
	await look(page, 'good');
	for (const [from, to, complaint] of cases) {
		assert.ok(good.includes(from));
		await page.setContent(good.replace(from, to));
		await assert.rejects(look(page, 'bad'), complaint);
	}
	await page.context().close();
});

inWorld('every page of the bank can be read and used, light and dark, on a desk and on a phone', {},
	async (world, ana) => {
		const page = await ana.signIn('ana');
		const start = await ana.context.newPage();

		await start.goto(world.bankUrl);
		await look(start, 'bank-start');
		await start.close();
		await ana.begin(page, 'quillmark');
		await look(page, 'bank-login');
		await page.getByLabel('Password').fill('wrong');
		await page.getByLabel('Login').fill('ana');
		await page.getByRole('button', { name: 'Sign in' }).click();
		await page.getByRole('alert').waitFor();
		await look(page, 'bank-login-wrong');
		await page.getByLabel('Password').fill('right');
		await page.getByRole('button', { name: 'Sign in' }).click();
		await page.getByRole('heading', { level: 1, name: 'One question more' }).waitFor();
		await look(page, 'bank-question');
		await page.getByRole('textbox').fill('the lake');
		await page.getByRole('button', { name: 'Continue' }).click();
		await page.getByRole('heading', { level: 1, name: 'Choose accounts' }).waitFor();
		await look(page, 'bank-accounts');
		await page.getByRole('button', { name: 'Continue' }).click();
		await page.getByRole('heading', { level: 1, name: 'Allow access?' }).waitFor();
		await look(page, 'bank-consent');
		await ana.answer(page, 'Allow');
		await ana.state(page, 'quillmark', 'linked');
		await page.goBack();
		await page.getByRole('heading', { level: 1, name: 'You have answered already' }).waitFor();
		await look(page, 'bank-answered');
	});

inWorld('every page of the host can be read and used, light and dark, on a desk and on a phone', {},
	async (world, ana) => {
		const page = await ana.newPage();

		await look(page, 'host-start');
		await page.getByRole('button', { name: 'ana' }).click();
		await ana.state(page, 'mikomo', 'none');
		await look(page, 'host-home');
		await ana.begin(page, 'mikomo');
		await ana.answer(page, 'Cancel');
		await ana.flashed(page, 'error', 202);
		await look(page, 'host-denied');
		await ana.link(page, 'mikomo');
		await look(page, 'host-linked');
		await ana.act(page, 'mikomo', /Accounts/).click();
		await page.locator('[data-account]').first().waitFor();
		await look(page, 'host-accounts');
		await page.goto(world.hostUrl);
		await ana.link(page, 'heronmere', 'ben');
		await world.say({ kill_grant: 'all' });
		await ana.act(page, 'mikomo', /Accounts/).click();
		await ana.flashed(page, 'error', 201);
		await look(page, 'host-accounts-refused');
		await page.goto(world.hostUrl);
		await ana.state(page, 'mikomo', 'relink-required');
		await look(page, 'host-relink');
		await ana.act(page, 'heronmere', /^Unlink/).click();
		await ana.flashed(page, 'ok', 0);
		await look(page, 'host-unlinked');
		await page.goto(`${world.hostUrl}/nowhere`);
		await look(page, 'host-not-found');
		await page.goto(`${world.hostUrl}/callback?code=x&state=y`);
		await look(page, 'host-callback-wrong');
	});

// ---- run ---------------------------------------------------------------------------------------

async function launch() {
	return chromium.launch({
		executablePath: process.env.TH_CHROMIUM,
		headless: true,
		chromiumSandbox: process.getuid() !== 0,
		args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
			'--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
			`--ignore-certificate-errors-spki-list=${pinnedKey}`],
	});
}

try {
	browser = await launch();
} catch (error) {
	console.log(`1..1\nnot ok 1 - ${process.env.TH_CHROMIUM} starts\n${explain(error)}`);
	process.exit(1);
}
const failed = await runAll(positionals);
await browser.close();
process.exit(failed > 0 ? 1 : 0);
