// Addresses, pages, sign-in, theme.

import { Refused, call, onTokenNeeded, signIn, signOut, signedIn, stream } from './api.js';
import { h } from './parts.js';
import * as views from './views.js';

const at = (id) => document.getElementById(id);

const PAGES = [
  ['Overview', '', views.overview], ['Queues', 'queues', views.queues], ['Jobs', 'jobs', views.jobs],
  ['Dead letters', 'dead', views.dead], ['Schedules', 'schedules', views.schedules],
  ['Workers', 'workers', views.workers], ['Brokers', 'brokers', views.brokers],
];
const RETRY_MS = 2000;

let current = new AbortController();
let shown = false;

function route(parts) {
  const [name, ...rest] = parts;
  if (name === 'queues' && rest.length) return ['queues', views.queue, rest];
  if (name === 'queues-after') return ['queues', views.queues, rest];
  if (name === 'job' && rest.length === 2) return ['jobs', views.job, rest];
  const known = PAGES.find(([, path]) => path === name);
  return known ? [known[1], known[2], rest] : ['', views.overview, []];
}

/** `null`: nothing is known yet. */
function live(ok, text) {
  const words = text ?? (ok ? 'live' : '');
  at('live').className = `live ${ok ? 'on' : ok === null ? '' : 'off'}`;
  // What is the same isn't read out again.
  if (at('live').textContent !== words) at('live').textContent = words;
}

let noticeEnds;
/** `kind`: `away` while there is no answer; `done` for what went well, which goes by itself. */
function notice(text, kind = '') {
  at('notice').hidden = !text;
  at('notice').className = `notice ${kind}`;
  at('notice').textContent = text;
  clearTimeout(noticeEnds);
  if (kind === 'done') noticeEnds = setTimeout(() => notice(''), 6000);
}

const isAway = () => at('notice').classList.contains('away');

function answered() {
  live(true);
  if (isAway()) notice('');
}

/** What is the same thing before and after it was drawn anew. */
const identity = (one) => `${one.tagName} ${one.dataset.key || one.getAttribute('aria-label') || one.getAttribute('href') || one.name || one.textContent}`;

/** Gives the focus to what is the same thing now; where there is none, or it can't have it, to the page. */
function focusAgain(thing) {
  const all = at('view').querySelectorAll('a, button:not(:disabled), input, select, textarea, summary, [tabindex]');
  (Array.from(all).find((one) => identity(one) === thing) || at('view')).focus({ preventScroll: true });
}

/** Draws anew without taking the focus from what is there afterwards too. */
function update(into, ...children) {
  const focused = into.contains(document.activeElement) && into !== document.activeElement ? identity(document.activeElement) : null;
  const open = new Set([...into.querySelectorAll('details[open] summary')].map((one) => one.dataset.key));
  into.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const summary of into.querySelectorAll('summary')) if (open.has(summary.dataset.key)) summary.parentElement.open = true;
  if (focused) focusAgain(focused);
}

/** Each question is a dialog of its own: that one is closed is heard of after the next may have been opened. */
function confirmed(title, text, verb) {
  const asking = document.activeElement;
  const dialog = h('dialog', { 'aria-label': title },
    h('form', { method: 'dialog' }, h('h2', {}, title), h('p', {}, text),
      h('menu', {}, h('button', { value: 'no' }, 'Leave it'), h('button', { value: 'yes', class: 'danger' }, verb))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      // The page may have been drawn anew beside the question.
      if (!asking.isConnected) focusAgain(identity(asking));
      done(dialog.returnValue === 'yes');
    }, { once: true });
  });
}

function makePage(signal) {
  const page = {
    signal,
    live,
    draw: (...children) => {
      if (signal.aborted) return;
      delete at('view').dataset.waits;
      update(at('view'), ...children);
    },
    update,
    confirm: confirmed,
    /** Asks until there is an answer: a broker that is away comes back. */
    ask: async (name, body) => {
      for (;;) {
        try {
          const answer = await call(name, body, signal);
          answered();
          return answer;
        } catch (error) {
          await page.away(error);
        }
      }
    },
    /** The stream, begun again when it breaks off. */
    follow: async (name, body, each) => {
      for (;;) {
        try {
          await stream(name, body, (message) => {
            answered();
            each(message);
          }, signal);
          return;
        } catch (error) {
          await page.away(error);
        }
      }
    },
    /** Waits, if the error may pass; else throws it. */
    away: async (error) => {
      if (!['unreachable', 'unavailable'].includes(error.code)) throw error;
      live(false, error.code === 'unreachable' ? 'no connection' : 'waiting');
      // What became of an action isn't overwritten.
      if (at('notice').hidden || isAway()) notice(error.message, 'away');
      await new Promise((done) => { setTimeout(done, RETRY_MS); });
      signal.throwIfAborted();
    },
    /** Does something and says how it went. */
    act: async (what, doIt) => {
      try {
        const more = await doIt();
        notice(`${what}: ${more || 'done'}`, 'done');
      } catch (error) {
        if (error.name !== 'AbortError') notice(`${what}: ${error.message}`);
      }
    },
    guard: (work) => { work.catch((error) => failed(error, page)); },
  };
  return page;
}

function failed(error, page) {
  if (error.name === 'AbortError' || page.signal.aborted) return;
  if (error instanceof Refused) {
    live(true, '');
    if (at('view').dataset.waits || error.code === 'not_found') page.draw(h('h1', {}, 'Not shown'), h('p', { class: 'empty' }, error.message));
    else notice(error.message);
  } else {
    notice(`The page failed: ${error.message}`);
    throw error;
  }
}

function show() {
  current.abort();
  current = new AbortController();
  notice('');
  live(null);
  let parts;
  try {
    parts = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  } catch {
    parts = [''];
  }
  const [active, view, rest] = route(parts);
  at('nav').replaceChildren(...PAGES.map(([name, path]) => (
    h('a', { href: `#/${path}`, 'aria-current': path === active ? 'page' : null }, name)
  )));
  const name = PAGES.find(([, path]) => path === active)[0];
  document.title = `${[name, ...rest].join(' · ')} – Currant`;
  at('view').dataset.waits = 'yes';
  at('view').replaceChildren(h('h1', {}, name), h('p', { class: 'empty late' }, 'Waiting for an answer…'));
  at('view').setAttribute('aria-label', name);
  // At first the way by keyboard begins above, with the link to the content.
  if (shown) at('view').focus({ preventScroll: true });
  shown = true;
  const page = makePage(current.signal);
  page.guard(view(page, ...rest));
}

// --- Sign-in

let asking = null;
onTokenNeeded((problem) => {
  asking ??= new Promise((done) => {
    at('login-problem').textContent = problem || '';
    at('token').value = '';
    at('login').showModal();
    at('login').addEventListener('close', () => {
      if (at('token').value) signIn(at('token').value.trim());
      at('sign').hidden = !signedIn();
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
});
at('sign').addEventListener('click', () => { signOut(); location.reload(); });
at('sign').hidden = !signedIn();

// --- Theme

const THEMES = ['auto', 'light', 'dark'];
function theme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at('theme').textContent = `Theme: ${name}`;
  localStorage.setItem('currant-theme', name);
}
let chosen = THEMES.includes(localStorage.getItem('currant-theme')) ? localStorage.getItem('currant-theme') : 'auto';
theme(chosen);
at('theme').addEventListener('click', () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  theme(chosen);
});

// As a link it would lead to another page.
at('skip').addEventListener('click', (event) => {
  event.preventDefault();
  at('view').focus();
});
window.addEventListener('hashchange', show);
show();
