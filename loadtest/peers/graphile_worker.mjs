// graphile-worker. Handlers are named tasks there.

import { EventEmitter } from "node:events";

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

import { fail } from "./wire.mjs";

/** What is measured, as package.json has it. */
export const PACKAGE = "graphile-worker";
const TASK = "noop";
const logger = new Logger(() => () => {});

/** Many jobs a call by the function for SQL; no row comes back, which is cheaper than `addJobs`. */
const ADD_JOBS = {
  name: "loadtest_add_jobs",
  text: `select count(*)::int as stored from graphile_worker.add_jobs(array(
    select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))`,
};
const LEFT = "select count(*)::int as jobs from graphile_worker._private_jobs";

export async function openQueue({ server, settings }) {
  const pool = openPool({ ...server, max: settings.producer_connections });
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  return {
    async addOne(payload) {
      await utils.addJob(TASK, payload);
    },
    async addMany(payloads) {
      const specs = JSON.stringify(payloads.map((payload) => ({ identifier: TASK, payload })));
      const { rows } = await pool.query({ ...ADD_JOBS, values: [specs] });
      return rows[0].stored;
    },
    async left() {
      const { rows } = await pool.query(LEFT);
      return rows[0].jobs;
    },
  };
}

export async function openWorker({ server, settings }, { started, finished }) {
  // The events of a job come before its batch is committed. What counts as finished here are rows
  // that an answered statement has deleted.
  class Client extends pg.Client {
    query(...args) {
      const answer = super.query(...args);
      if (args[0]?.name?.startsWith("complete_job")) {
        answer.then(({ rowCount }) => finished(rowCount), fail);
      }
      return answer;
    }
  }
  const pool = openPool({ ...server, max: settings.worker.maxPoolSize, Client });
  const events = new EventEmitter();
  for (const event of ["job:error", "pool:fatalError", "worker:fatalError"]) {
    events.on(event, ({ error }) => fail(error));
  }
  let runner;
  return {
    async start() {
      runner = await run({
        pgPool: pool,
        preset: { worker: settings.worker },
        taskList: { [TASK]: async (payload) => started(payload) },
        events,
        logger,
        noHandleSignals: true,
      });
      runner.promise.catch(fail);
    },
    async stop() {
      await runner.stop();
    },
  };
}

function openPool(options) {
  const pool = new pg.Pool(options);
  pool.on("error", fail);
  pool.on("connect", (client) => client.on("error", fail));
  return pool;
}
