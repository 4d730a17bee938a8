// One process of one system: `node main.mjs '{"system": …, "role": "producer" | "worker", …}'`, started
// by `currant-loadtest peers`. The rest of the object is what the modules take out of it.

import { readFile } from "node:fs/promises";

import { producer } from "./producer.mjs";
import { serve } from "./wire.mjs";
import { worker } from "./worker.mjs";

const config = JSON.parse(process.argv[2]);
const system = await import(`./${config.system}.mjs`);
const list = JSON.parse(await readFile(new URL("package.json", import.meta.url)));
const versions = {
  node: process.versions.node,
  [system.PACKAGE]: list.dependencies[system.PACKAGE],
};

if (config.role === "producer") {
  await serve(versions, producer(await system.openQueue(config), config));
} else {
  await serve(versions, await worker((calls) => system.openWorker(config, calls), config));
}
