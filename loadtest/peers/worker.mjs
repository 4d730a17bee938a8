// A worker's process: counts the starts of each job and what is finished, and tells it.

import { fail, nowUs, send } from "./wire.mjs";

/** Between two lines that say how far a worker is. The times in them are exact. */
const TELL_EVERY_MS = 10;
/** A job's starts are told as one digit. */
const STARTS_MAX = 9;

/**
 * `open` is given what is to be called when a handler starts and when jobs are finished for good, and
 * answers with `start()` and `stop()`.
 */
export async function worker(open, { jobs, latency_from }) {
  const starts = new Uint8Array(jobs);
  const latencies_us = [];
  let finished = 0;
  let at_us = 0;
  let telling = false;

  function tell() {
    telling = false;
    send({ event: "progress", finished, at_us });
  }

  const running = await open({
    started({ index, sent_us }) {
      if (!(index < jobs)) return fail(`a job of nobody, number ${index}`);
      if (starts[index] < STARTS_MAX) starts[index]++;
      if (latency_from !== null && index >= latency_from) latencies_us.push(nowUs() - sent_us);
    },
    finished(count) {
      finished += count;
      at_us = nowUs();
      if (telling) return;
      telling = true;
      setTimeout(tell, TELL_EVERY_MS);
    },
  });

  return {
    async start() {
      const start_us = nowUs();
      await running.start();
      return { start_us };
    },
    async stop() {
      await running.stop();
      return {};
    },
    async report() {
      return { starts: starts.join(""), finished, latencies_us };
    },
  };
}
