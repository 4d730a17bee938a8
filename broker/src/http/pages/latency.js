// How soon jobs started and how long they ran, by the histograms that this broker shows to Prometheus.

import { text } from './api.js';
import { ms, span, wait } from './parts.js';

const POLL_MS = 5000;
const WINDOW_MS = 60000;
const FAMILIES = { start: 'currant_start_latency_seconds_bucket{', run: 'messaging_process_duration_seconds_bucket{' };

/** Of each family the jobs up to each bound, over all queues. */
function read(metrics) {
  const sums = { start: new Map(), run: new Map() };
  for (const line of metrics.split('\n')) {
    for (const [name, beginning] of Object.entries(FAMILIES)) {
      if (!line.startsWith(beginning)) continue;
      const bound = line.match(/le="([^"]*)"\} /)[1];
      const at = bound === '+Inf' ? Infinity : Number(bound);
      sums[name].set(at, (sums[name].get(at) || 0) + Number(line.slice(line.lastIndexOf(' '))));
    }
  }
  return sums;
}

/** Below which 95 in a hundred of those are that came between two looks, in seconds. */
function most(before, now) {
  const bounds = [...now.keys()].sort((one, other) => one - other);
  const upTo = (bound) => now.get(bound) - (before.get(bound) || 0);
  const wanted = 0.95 * upTo(Infinity);
  if (!(wanted > 0)) return null;
  let [below, jobs] = [0, 0];
  for (const bound of bounds) {
    if (upTo(bound) >= wanted) return bound === Infinity ? below : below + ((bound - below) * (wanted - jobs)) / (upTo(bound) - jobs);
    [below, jobs] = [bound, upTo(bound)];
  }
  return null;
}

/** Looks again and again until the page is left; what is returned makes a card of the last minute that was looked at. */
export function watchLatency(page) {
  const looks = [];
  const look = async () => {
    while (!page.signal.aborted) {
      if (!document.hidden) {
        // Who may not see it, and a broker that is away, are told by the page's other calls.
        const metrics = await text('metrics', page.signal).catch(() => null);
        if (metrics) looks.push({ at: Date.now(), ...read(metrics) });
        while (looks.length > 2 && looks[1].at < Date.now() - WINDOW_MS) looks.shift();
      }
      await wait(POLL_MS, page.signal);
    }
  };
  look();
  return (title, name) => {
    const seconds = looks.length > 1 ? most(looks[0][name], looks.at(-1)[name]) : null;
    if (seconds === null) return [title, '–'];
    return [title, seconds < 0.001 ? '< 1 ms' : span(ms(seconds)), '95 %'];
  };
}
