// The load: enqueues as fast as calls are answered, or at a steady rate.

import { setTimeout as sleep } from "node:timers/promises";

import { nowUs, send } from "./wire.mjs";

/** So that a long run isn't taken for a hang. */
const TELL_EVERY_MS = 1000;

/**
 * `queue` has `addOne(payload)`, `addMany(payloads)`, which answers how many jobs it has stored, and
 * `left()`, which answers how many the system still has.
 */
export function producer(queue, { payload_bytes }) {
  function payload(index) {
    const payload = { index, sent_us: nowUs(), filler: "" };
    const bytes = JSON.stringify(payload).length;
    payload.filler = "x".repeat(Math.max(0, payload_bytes - bytes));
    return payload;
  }

  async function add(first, count) {
    if (count === 1) {
      await queue.addOne(payload(first));
      return 1;
    }
    return queue.addMany(Array.from({ length: count }, (_, n) => payload(first + n)));
  }

  /** Runs `load(count)`, which calls `count` with the number of jobs that a call has stored. */
  async function measured(load) {
    let stored = 0;
    const tell = () => send({ event: "progress", finished: stored, at_us: nowUs() });
    const telling = setInterval(tell, TELL_EVERY_MS);
    const start_us = nowUs();
    await load((jobs) => (stored += jobs), start_us);
    const end_us = nowUs();
    clearInterval(telling);
    return { start_us, end_us, stored };
  }

  return {
    /** Closed loop: `in_flight` calls of `batch` jobs under way until `jobs` are stored. */
    enqueue({ first, jobs, batch, in_flight }) {
      const end = first + jobs;
      let next = first;
      return measured(async (count) => {
        async function oneAfterTheOther() {
          while (next < end) {
            const from = next;
            next = Math.min(from + batch, end);
            count(await add(from, next - from));
          }
        }
        await Promise.all(Array.from({ length: in_flight }, oneAfterTheOther));
      });
    },

    /**
     * Open loop: a call a job, whatever became of the earlier ones. Timers are late by up to a
     * millisecond, so a job is stamped when it is sent, not with the time of the schedule.
     */
    pace({ first, jobs, rate }) {
      return measured(async (count, start_us) => {
        const calls = [];
        for (let n = 0; n < jobs; n++) {
          const early_us = start_us + (n * 1e6) / rate - nowUs();
          if (early_us > 0) await sleep(early_us / 1000);
          calls.push(add(first + n, 1).then(count));
        }
        await Promise.all(calls);
      });
    },

    async left() {
      return { left: await queue.left() };
    },
  };
}
