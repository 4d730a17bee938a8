// How these programs talk with the load test: a JSON object a line. Commands come on standard input,
// answers and events go to standard output. The end of the input is the end of the program.

import { createInterface } from "node:readline";

/** Microseconds of the machine's monotonic clock: the same for all processes. */
export function nowUs() {
  return Number(process.hrtime.bigint() / 1000n);
}

export function send(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

/** What can't be gone on from: the load test shows it and ends. */
export function fail(error) {
  send({ event: "failed", error: error?.stack ?? String(error) });
}

/** Says that all is ready; then runs each command to its end and answers with what it returns. */
export async function serve(versions, commands) {
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  const lines = createInterface({ input: process.stdin });
  lines.on("close", () => process.exit(0));
  send({ event: "ready", versions });
  for await (const line of lines) {
    const { command, ...options } = JSON.parse(line);
    try {
      send({ event: "answer", ...(await commands[command](options)) });
    } catch (error) {
      fail(error);
    }
  }
}
