// Posts a file to a URL by fetch, twice over one connection, and prints the second answer.
import { readFileSync } from "node:fs";

const [url, file] = process.argv.slice(2);
const options = {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: readFileSync(file),
};
let answer = "";
for (let count = 0; count < 2; count += 1) {
  const response = await fetch(url, { ...options, signal: AbortSignal.timeout(20_000) });
  answer = await response.text();
}
process.stdout.write(answer);
