// SPDX-License-Identifier: MIT
// Tests in a row, as TAP: a name that is a sentence, and what must not throw.
const tests = [];

export const test = (name, run) => tests.push({ name, run });

export function explain(error) {
	const text = error?.stack ?? String(error);
	return text.replace(/\u001b\[[0-9;]*m/g, '').split('\n').map((line) => `# ${line}`).join('\n');
}

// Only tests whose name has one of the words in it; all of them if there is none.
// Returns how many failed.
export async function runAll(words) {
	const chosen = tests.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
	let failed = 0;
	let number = 0;

	console.log(`1..${chosen.length}`);
	for (const { name, run } of chosen) {
		number++;
		try {
			await run();
			console.log(`ok ${number} - ${name}`);
		} catch (error) {
			failed++;
			console.log(`not ok ${number} - ${name}\n${explain(error)}`);
		}
	}
	return failed;
}
