// SPDX-License-Identifier: MIT
// A person with a browser of their own, who knows the pages of the example host and of
// the practice bank. What no page may do is watched all the time: errors in the console,
// requests to anyone else, tokens in a page of the host.
import assert from 'node:assert/strict';
import { tabTo } from './looks.mjs';

const WAIT_MS = 30_000;

export class Visitor {
	static async open(browser, world, options = {}) {
		const visitor = new Visitor();

		visitor.world = world;
		visitor.complaints = [];
		visitor.refusals = new Set();
		visitor.pages = [];
		visitor.posts = [];
		visitor.strangers = new Set();
		visitor.context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: 'light',
			reducedMotion: 'reduce', ...options });
		visitor.context.setDefaultTimeout(WAIT_MS);
		visitor.watch();
		return visitor;
	}

	watch() {
		const { context, world } = this;

		context.on('request', (request) => {
			const { origin } = new URL(request.url());
			if (origin !== new URL(world.hostUrl).origin && origin !== world.bankUrl && !this.strangers.has(origin)) {
				this.complaints.push(`a request left for ${request.url()}`);
			}
			if (request.method() === 'POST') this.posts.push(request);
		});
		context.on('response', (response) => {
			if (response.request().isNavigationRequest() && response.status() >= 400) this.refusals.add(response.url());
			if (response.url().startsWith(world.hostUrl) && !response.headers().location) {
				// A page that was left before it was read can't be asked for.
				this.pages.push(response.text().catch(() => ''));
			}
		});
		context.on('console', (message) => {
			// Chromium reports a page that came with an error status as an error.
			if (message.type() === 'error' && !this.refusals.has(message.location().url)) {
				this.complaints.push(`console: ${message.text()} (${message.location().url})`);
			}
		});
		context.on('weberror', (error) => this.complaints.push(`script: ${error.error()}`));
	}

	async close() {
		const texts = (await Promise.all(this.pages)).join('\n');

		await this.context.close();
		if (this.pages.length > 0) assert.ok(texts.includes('</html>'), 'the pages were read');
		for (const token of await this.world.allTokens()) {
			if (texts.includes(token)) this.complaints.push('a page of the host shows a token');
		}
		assert.deepEqual(this.complaints, []);
	}

	// What stands on the pages now, for whoever reads about a failure.
	async scene() {
		const pages = this.context.pages().filter((page) => !page.isClosed());
		const texts = await Promise.all(pages.map(async (page) => {
			const text = await page.locator('body').innerText({ timeout: 1000 });
			return `--- ${page.url()}\n${text}`;
		}));

		return [...texts, ...this.complaints].join('\n');
	}

	async newPage(path = '/') {
		const page = await this.context.newPage();

		await page.goto(this.world.hostUrl + path);
		return page;
	}

	// ---- the host ---------------------------------------------------------------------

	async signIn(user, path = '/') {
		const page = await this.newPage(path);

		await page.getByRole('button', { name: user }).click();
		await page.locator('[data-institution]').first().waitFor();
		return page;
	}

	card(page, institution) {
		return page.locator(`[data-institution="${institution}"]`);
	}

	// A button or link on a card.
	act(page, institution, name) {
		const card = this.card(page, institution);

		return card.getByRole('button', { name }).or(card.getByRole('link', { name }));
	}

	async begin(page, institution, name = /^Link/) {
		await this.act(page, institution, name).click();
		await page.waitForURL(`${this.world.bankUrl}/**`);
		await page.getByLabel('Login').waitFor();
	}

	async link(page, institution, login = 'ana') {
		await this.begin(page, institution);
		await this.consent(page, login);
		await this.state(page, institution, 'linked');
	}

	// Waits until the card says so.
	async state(page, institution, state) {
		await this.card(page, institution).and(page.locator(`[data-state="${state}"]`)).waitFor();
	}

	flash(page) {
		return page.locator('#flash');
	}

	async flashed(page, kind, status) {
		const flash = this.flash(page);

		await flash.waitFor();
		assert.equal(await flash.getAttribute('data-kind'), kind, await flash.textContent());
		if (status !== undefined) assert.equal(await flash.getAttribute('data-status'), `${status}`, await flash.textContent());
		return flash.textContent();
	}

	// ---- the bank ---------------------------------------------------------------------

	async toConsent(page, login) {
		await page.getByLabel('Login').fill(login);
		await page.getByLabel('Password').fill('any');
		await page.getByRole('button', { name: 'Sign in' }).click();
		await page.getByRole('heading', { level: 1, name: 'Choose accounts' }).waitFor();
		await page.getByRole('button', { name: 'Continue' }).click();
		await page.getByRole('heading', { level: 1, name: 'Allow access?' }).waitFor();
	}

	async answer(page, button) {
		await page.getByRole('button', { name: button, exact: true }).click();
	}

	async consent(page, login) {
		await this.toConsent(page, login);
		await this.answer(page, 'Allow');
		await page.waitForURL(`${this.world.hostUrl}/**`);
	}

	// Consents, but the callback stays on the way. Returns its URL.
	async consentWithoutCallback(page, login) {
		const session = await this.context.newCDPSession(page);

		await this.toConsent(page, login);
		await session.send('Fetch.enable', { patterns: [{ urlPattern: `${this.world.hostUrl}/callback*` }] });
		const paused = new Promise((resolve) => { session.once('Fetch.requestPaused', resolve); });
		await page.getByRole('button', { name: 'Allow', exact: true }).click({ noWaitAfter: true });
		const { requestId, request } = await paused;
		await session.send('Fetch.failRequest', { requestId, errorReason: 'Aborted' });
		await session.send('Fetch.disable');
		await session.detach();
		return request.url;
	}

	// ---- the keyboard ------------------------------------------------------------------

	async press(page, locator, key = 'Enter') {
		await tabTo(page, locator);
		await page.keyboard.press(key);
	}

	async type(page, locator, text) {
		await tabTo(page, locator);
		await page.keyboard.press('Control+A');
		await page.keyboard.type(text);
	}
}
