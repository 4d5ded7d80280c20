// SPDX-License-Identifier: MIT
// Whether a page can be read and used: by its structure, light and dark, on a desk and on
// a phone, by keyboard. With TH_KEEP a picture of each is kept.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

export const sizes = { desktop: { width: 1280, height: 860 }, phone: { width: 390, height: 780 } };
const narrow = { width: 320, height: 640 }; // WCAG 2.2, 1.4.10

// ---- what runs in the page: gives a list of complaints ----------------------------------

/* global document, getComputedStyle, innerWidth */
function structureOf() {
	const bad = [];
	const shown = (el) => el.checkVisibility() && el.getClientRects().length > 0;
	const name = (el) => `<${el.tagName.toLowerCase()}${el.id ? ` id=${el.id}` : ''}> "${el.textContent.trim().slice(0, 40)}"`;
	const textOf = (el) => (el.getAttribute('aria-label') ?? '').trim()
		|| (el.getAttribute('aria-labelledby') ?? '').split(/\s+/).map((id) => document.getElementById(id)?.textContent ?? '')
			.join(' ').trim()
		|| el.textContent.trim() || (el.querySelector('img[alt]')?.alt ?? '').trim();
	const all = (selector) => [...document.querySelectorAll(selector)];
	const ids = all('[id]').map((el) => el.id);
	const levels = all('h1, h2, h3, h4, h5, h6').filter(shown).map((el) => Number(el.tagName[1]));

	if (!document.documentElement.lang) bad.push('the page names no language');
	if (!document.title.trim()) bad.push('the page has no title');
	if (document.compatMode !== 'CSS1Compat') bad.push('the page is in quirks mode');
	if (all('h1').filter(shown).length !== 1) bad.push(`the page has ${all('h1').filter(shown).length} h1`);
	if (all('main').length !== 1) bad.push(`the page has ${all('main').length} main`);
	levels.forEach((level, i) => {
		if (i > 0 && level > levels[i - 1] + 1) bad.push(`h${level} follows h${levels[i - 1]}`);
	});
	ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => bad.push(`id ${id} is there twice`));
	for (const el of all('input:not([type=hidden]), select, textarea')) {
		const labelled = [...(el.labels ?? [])].some((label) => label.textContent.trim()) || textOf(el);
		if (shown(el) && !labelled) bad.push(`the field ${el.name} has no label`);
	}
	for (const el of all('[aria-describedby], [aria-labelledby]')) {
		for (const id of `${el.getAttribute('aria-describedby') ?? ''} ${el.getAttribute('aria-labelledby') ?? ''}`.split(/\s+/)) {
			if (id && !document.getElementById(id)) bad.push(`${name(el)} points to ${id}, which is not there`);
		}
	}
	for (const el of all('button, a[href], summary')) {
		if (shown(el) && !textOf(el)) bad.push(`${name(el)} has no name`);
	}
	// Links within text may be as low as the line; buttons and boxes may not (WCAG 2.2, 2.5.8).
	for (const el of all('button, input:not([type=hidden]), summary')) {
		const boxes = [el, el.closest('label') ?? el].map((one) => one.getBoundingClientRect());
		const [width, height] = ['width', 'height'].map((side) => Math.max(...boxes.map((box) => box[side])));
		if (shown(el) && (width < 24 || height < 24)) bad.push(`${name(el)} is ${width} by ${height}`);
	}
	for (const el of all('img')) if (!el.hasAttribute('alt')) bad.push('an image has no alt');
	for (const el of all('svg')) {
		if (shown(el) && el.getAttribute('aria-hidden') !== 'true' && !textOf(el)) bad.push('an svg has no name');
	}
	for (const el of all('th')) if (!el.scope && !el.closest('thead')) bad.push(`${name(el)} heads nothing`);
	for (const el of all('[tabindex]')) if (el.tabIndex > 0) bad.push(`${name(el)} has a tabindex of its own`);
	return bad;
}

function contrastOf() {
	const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
		.getContext('2d', { willReadFrequently: true });
	const known = new Map();
	const read = (colour) => {
		if (!known.has(colour)) {
			context.clearRect(0, 0, 1, 1);
			context.fillStyle = colour;
			context.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
			known.set(colour, [r, g, b, a / 255]);
		}
		return known.get(colour);
	};
	const over = ([r, g, b, a], [r2, g2, b2]) => [r * a + r2 * (1 - a), g * a + g2 * (1 - a), b * a + b2 * (1 - a)];
	const light = (colour) => {
		const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92
			: ((part / 255 + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const canvas = document.documentElement;
	// The browser's own white or black, as color-scheme has it, is below everything.
	const bottom = () => {
		const probe = document.body.appendChild(document.createElement('div'));
		probe.style.setProperty('background', 'Canvas', 'important');
		const colour = getComputedStyle(probe).backgroundColor;
		probe.remove();
		return read(colour);
	};
	const base = bottom();
	const behind = (el) => {
		const layers = [];
		for (let at = el; at !== null; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
		return layers.reverse().reduce((below, layer) => over(layer, below), base);
	};
	const walker = document.createTreeWalker(canvas, NodeFilter.SHOW_TEXT);
	const bad = new Set();
	let least = 21;

	while (walker.nextNode()) {
		const el = walker.currentNode.parentElement;
		const text = walker.currentNode.data.trim();
		const { width, height } = el.getBoundingClientRect();
		if (!text || el.closest('script, style, noscript, head, [disabled]') || !el.checkVisibility()
			|| width <= 1 || height <= 1) continue;
		const style = getComputedStyle(el);
		const back = behind(el);
		const [a, b] = [light(over(read(style.color), back)), light(back)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		const pixels = parseFloat(style.fontSize);
		const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
		least = Math.min(least, ratio);
		if (ratio < (large ? 3 : 4.5) || parseFloat(style.opacity) < 0.9) {
			bad.add(`"${text.slice(0, 40)}" has a contrast of ${ratio.toFixed(2)} (${style.color} on ${back.map(Math.round)})`);
		}
	}
	return [...bad];
}

function overflowOf() {
	const wide = document.scrollingElement.scrollWidth;

	if (wide <= innerWidth) return [];
	const el = [...document.querySelectorAll('body *')].find((one) => one.getBoundingClientRect().right > innerWidth + 1);
	return [`the page is ${wide} wide in a window of ${innerWidth}: ${el?.outerHTML.slice(0, 120)}`];
}

// ---- focus ---------------------------------------------------------------------------------

function focusOf() {
	const el = document.activeElement;
	const style = getComputedStyle(el);
	const box = el.getBoundingClientRect();
	const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;

	return { what: el === document.body ? null : el.outerHTML.slice(0, 100),
		seen: (outlined || style.boxShadow !== 'none') && box.width > 1 && box.height > 1
			&& box.bottom > 0 && box.top < document.documentElement.clientHeight };
}

// One press of Tab; where the focus is then. It must be seen.
async function tab(page, key = 'Tab') {
	await page.keyboard.press(key);
	const focus = await page.evaluate(focusOf);

	if (focus.what !== null && !focus.seen) throw new Error(`the focus is not seen on ${focus.what}`);
	return focus.what;
}

// Presses Tab until `locator` has the focus.
export async function tabTo(page, locator) {
	await locator.waitFor();
	for (let i = 0; i < 80; i++) {
		if (await locator.evaluate((el) => el === el.ownerDocument.activeElement)) return;
		await tab(page);
	}
	throw new Error(`Tab never comes to ${locator}`);
}

// ---- all of it ------------------------------------------------------------------------------

async function keep(page, name) {
	const dir = process.env.TH_KEEP;

	if (!dir) return;
	mkdirSync(dir, { recursive: true });
	await page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
}

// Every tab stop of the page once, from its top.
async function walkByKeyboard(page) {
	const stops = await page.locator('a[href], button, input:not([type=hidden]), select, textarea, summary').count();

	await page.evaluate(() => {
		document.activeElement.blur();
		getSelection().removeAllRanges();
		scrollTo(0, 0);
	});
	for (let i = 0; i < stops; i++) if (await tab(page) === null) break;
	await page.evaluate(() => document.activeElement.blur());
}

// Throws with everything that is wrong with the page as it stands.
export async function look(page, name) {
	await page.waitForLoadState('load'); // its stylesheet too
	const before = page.viewportSize();
	const bad = [];
	const note = (where, complaints) => complaints.forEach((text) => bad.push(`${name} ${where}: ${text}`));

	note('', await page.evaluate(structureOf));
	for (const colorScheme of ['light', 'dark']) {
		await page.emulateMedia({ colorScheme });
		for (const [size, viewport] of Object.entries(sizes)) {
			const where = `${colorScheme} ${size}`;
			await page.setViewportSize(viewport);
			note(where, await page.evaluate(contrastOf));
			note(where, await page.evaluate(overflowOf));
			await keep(page, `${name}-${colorScheme}-${size}`);
		}
		await walkByKeyboard(page).catch((error) => note(colorScheme, [error.message]));
	}
	await page.setViewportSize(narrow);
	note('narrow', await page.evaluate(overflowOf));
	await page.setViewportSize(before);
	await page.emulateMedia({ colorScheme: 'light' });
	if (bad.length > 0) throw new Error(`${page.url()}\n${bad.join('\n')}`);
}
