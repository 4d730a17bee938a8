// The form for what of a queue, and of each of its keys, may be under way.

import { call } from './api.js';
import { h, ms } from './parts.js';

const field = (label, name, value, hint) => h('label', {}, label,
  h('input', { name, type: 'number', min: 1, value: value || '', placeholder: hint, size: 9 }));

const rateFields = (name, rate) => [
  field('Jobs', `${name}-jobs`, rate?.jobs, 'no limit'),
  field('in seconds', `${name}-period`, rate ? ms(rate.period) / 1000 : '', '1'),
  field('Burst', `${name}-burst`, rate?.burst, 'as many'),
];

const weightLines = (weights) => Object.entries(weights || {}).sort().map(([key, weight]) => `${key}=${weight}`).join('\n');

/** A line for each key. The key may have more of these signs. */
function readWeights(text) {
  const weights = {};
  for (const line of text.split(/\r?\n/).filter((one) => one.trim())) {
    const [, key, weight] = line.match(/^(.+)=\s*(\d+)\s*$/) || [];
    if (!key) throw new Error(`weights: "${line}" isn't KEY=NUMBER`);
    weights[key] = Number(weight);
  }
  return weights;
}

/** What the form says, beside what the queue has said of other things. */
function read(form, before) {
  const at = (name) => Number(form.get(name)) || 0;
  const settings = {
    ...before,
    concurrencyMax: at('concurrency'),
    keyConcurrencyMax: at('key-concurrency'),
    keyOrdered: form.has('key-ordered'),
    keyWeights: readWeights(form.get('key-weights')),
  };
  for (const [setting, name] of [['rate', 'queue'], ['keyRate', 'key']]) {
    delete settings[setting];
    const jobs = at(`${name}-jobs`);
    if (jobs) settings[setting] = { jobs, period: `${at(`${name}-period`) || 1}s`, burst: at(`${name}-burst`) };
  }
  return settings;
}

/** `draw`: shows the queue anew. */
export function limitForm(page, { name, settings: of }, draw) {
  const save = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    page.act('Limits', async () => {
      await call('QueueService/Configure', { queue: name, settings: read(form, of) });
      await draw();
    });
  };
  return h('form', { class: 'filters', onsubmit: save },
    h('fieldset', {}, h('legend', {}, 'Of the queue'),
      field('Jobs at a time', 'concurrency', of.concurrencyMax, 'no limit'),
      rateFields('queue', of.rate)),
    h('fieldset', {}, h('legend', {}, 'Of each key'),
      field('Jobs at a time', 'key-concurrency', of.keyConcurrencyMax, 'no limit'),
      rateFields('key', of.keyRate),
      h('label', { class: 'check' }, h('input', { name: 'key-ordered', type: 'checkbox', checked: of.keyOrdered }), 'One at a time, in order'),
      h('label', {}, 'Weights', h('textarea', { name: 'key-weights', rows: 2, cols: 16, placeholder: 'key=3' }, weightLines(of.keyWeights)))),
    h('button', {}, 'Save limits'));
}
