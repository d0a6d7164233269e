// Call functions of an explorer's module in Node: `node call.mjs MODULE INPUT`, a list of [name, arguments] in JSON in,
// the list of results out.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , path, input] = process.argv;
const module = await import(pathToFileURL(path).href);
const results = JSON.parse(readFileSync(input, "utf8")).map(([name, values]) => module[name](...values));
const plainly = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
process.stdout.write(JSON.stringify(results, plainly));
