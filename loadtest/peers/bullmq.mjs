// BullMQ on Redis.

import { Queue, Worker } from "bullmq";

import { fail } from "./wire.mjs";

/** What is measured, as package.json has it. */
export const PACKAGE = "bullmq";
const QUEUE = "loadtest";
const JOB = "noop";

export async function openQueue({ server, settings }) {
  const queue = new Queue(QUEUE, {
    connection: { ...server, ...settings.connection },
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  queue.on("error", fail);
  await queue.waitUntilReady();
  return {
    async addOne(payload) {
      await queue.add(JOB, payload);
    },
    async addMany(payloads) {
      const jobs = await queue.addBulk(payloads.map((data) => ({ name: JOB, data })));
      return new Set(jobs.map((job) => job.id)).size;
    },
    async left() {
      const counts = await queue.getJobCounts();
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    },
  };
}

export async function openWorker({ server, settings }, { started, finished }) {
  let worker;
  return {
    async start() {
      worker = new Worker(QUEUE, async (job) => started(job.data), {
        ...settings.worker,
        connection: { ...server, ...settings.connection, maxRetriesPerRequest: null },
        autorun: false,
      });
      worker.on("completed", () => finished(1));
      worker.on("failed", (_job, error) => fail(error));
      worker.on("error", fail);
      worker.run().catch(fail);
    },
    async stop() {
      await worker.close();
    },
  };
}
