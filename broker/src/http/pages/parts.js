// Elements, and how values are shown.

/** An element: `h('a', { href }, 'text', child)`. Text is always text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const whole = new Intl.NumberFormat('en');
export const number = (value) => whole.format(Math.round(Number(value || 0)));
export const rate = (value) => (value > 0 && value < 10 ? value.toFixed(1) : number(value));
export const count = (value) => (value ? `${value.exact ? '' : '≈ '}${number(value.jobs)}` : '0');

/** Milliseconds of a duration as JSON has it: "1.5s". */
export const ms = (duration) => (duration ? parseFloat(duration) * 1000 : null);

export function span(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return '–';
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const two = (large, name, small, smallName) => {
    const [whole, rest] = [Math.floor(seconds / large), Math.floor((seconds % large) / small)];
    return rest ? `${whole} ${name} ${rest} ${smallName}` : `${whole} ${name}`;
  };
  if (seconds < 3600) return two(60, 'min', 1, 's');
  if (seconds < 86400) return two(3600, 'h', 60, 'min');
  return two(86400, 'd', 3600, 'h');
}

/** A time, and how far away it is. */
export function time(value) {
  if (!value) return h('span', { class: 'soft' }, '–');
  const at = new Date(value);
  const away = at - Date.now();
  const text = Math.abs(away) < 1000 ? 'now' : away > 0 ? `in ${span(away)}` : `${span(-away)} ago`;
  return h('time', { datetime: value, title: at.toISOString(), class: 'nowrap' }, text);
}

export const moment = (value) => (value ? new Date(value).toISOString().replace('T', ' ').replace(/\.(\d{3})\d*Z/, '.$1 UTC') : '–');

export const stateName = (state) => (state || '').replace('JOB_STATE_', '').toLowerCase();
export const badge = (word, kind = word) => h('span', { class: `badge ${kind}` }, word);

/** Columns: [name, how a row is shown, class]. The first is the row's header. */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h('div', { class: 'scroll' }, h('p', { class: 'empty' }, empty));
  const head = columns.map(([name, , kind]) => h('th', { scope: 'col', class: kind }, name));
  const line = (row) => h('tr', {}, columns.map(([, show, kind], at) => (
    h(at ? 'td' : 'th', at ? { class: kind } : { scope: 'row', class: kind }, show(row))
  )));
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', { 'aria-label': caption }, h('thead', {}, h('tr', {}, head)), h('tbody', {}, rows.map(line))));
}

/** Text that may be long: it scrolls, by keyboard too. */
export const block = (name, text) => h('pre', { tabindex: 0, role: 'region', 'aria-label': name }, text);

export const cards = (pairs) => h('div', { class: 'cards' }, pairs.map(([name, value, more]) => (
  h('dl', { class: 'card' }, h('dt', {}, name), h('dd', {}, value, more ? h('small', {}, ` ${more}`) : null))
)));

export const facts = (pairs) => h('dl', { class: 'facts' }, pairs
  .filter(([, value]) => value !== null && value !== undefined && value !== '')
  .map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));

/** Jobs in and out a second over the last minutes. */
export function chart(samples) {
  const most = Math.max(1, ...samples.map((one) => Math.max(one.enqueued, one.completed)));
  const x = (at) => (samples.length < 2 ? 0 : (at / (samples.length - 1)) * 100);
  const path = (of) => samples.map((one, at) => `${at ? 'L' : 'M'}${x(at).toFixed(2)} ${(38 - (of(one) / most) * 36).toFixed(2)}`).join('');
  const last = samples.at(-1) || { enqueued: 0, completed: 0 };
  const words = `Jobs a second: ${rate(last.enqueued)} in, ${rate(last.completed)} out; at most ${rate(most)}.`;
  return h('figure', { class: 'chart' },
    h('figcaption', { class: 'legend' },
      h('span', {}, h('i', { class: 'in' }), `in ${rate(last.enqueued)}/s`),
      h('span', {}, h('i', { class: 'out' }), `out ${rate(last.completed)}/s`),
      h('span', {}, `top of the scale ${rate(most)}/s`)),
    svg('svg', { viewBox: '0 0 100 40', preserveAspectRatio: 'none', role: 'img', 'aria-label': words },
      svg('line', { x1: 0, y1: 38, x2: 100, y2: 38 }),
      svg('path', { class: 'in', d: path((one) => one.enqueued) }),
      svg('path', { class: 'out', d: path((one) => one.completed) })));
}

/** Bytes of a message as people read them. */
export function bytes(base64, contentType) {
  if (!base64) return '';
  const raw = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(raw);
    if (/[\u0000-\u0008\u000e-\u001f]/.test(text)) throw new Error('not text');
    if (!contentType || contentType.includes('json')) {
      try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
    }
    return text;
  } catch {
    const hex = Array.from(raw.slice(0, 512), (one) => one.toString(16).padStart(2, '0')).join(' ');
    return raw.length > 512 ? `${hex} … ${number(raw.length)} bytes` : hex;
  }
}

/** Ends after so many milliseconds, or when the page is left. */
export const wait = (time, signal) => new Promise((done) => {
  const timer = setTimeout(over, time);
  function over() {
    clearTimeout(timer);
    signal.removeEventListener('abort', over);
    done();
  }
  signal.addEventListener('abort', over);
});
