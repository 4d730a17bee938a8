// A page each: given where to draw, what the address says, and what ends it.

import { call, stream } from './api.js';
import { watchLatency } from './latency.js';
import { limitForm } from './limits.js';
import {
  badge, block, bytes, cards, chart, count, facts, h, moment, ms, number, rate, span, stateName, table, time, wait,
} from './parts.js';

const POLL_MS = 3000;
const STATES = ['scheduled', 'ready', 'running', 'succeeded', 'dead', 'cancelled'];
const link = (...parts) => `#/${parts.map(encodeURIComponent).join('/')}`;

/** Calls again and again until the page is left; a tab that nobody sees asks nothing. */
async function poll(page, draw) {
  while (!page.signal.aborted) {
    if (!document.hidden) {
      draw(await page.ask(draw.call, draw.body));
      page.live(true);
    }
    await wait(POLL_MS, page.signal);
  }
}

const asked = (name, body, draw) => Object.assign(draw, { call: name, body });

// --- Queues

const samples = [];

function remember(queues) {
  const sum = (of) => queues.reduce((total, one) => total + of(one.stats), 0);
  samples.push({ enqueued: sum((it) => it.enqueuedPerSecond), completed: sum((it) => it.completedPerSecond) });
  if (samples.length > 150) samples.shift();
}

const queueColumns = (page) => [
  ['Queue', ({ queue }) => h('a', { href: link('queues', queue.name) }, queue.name)],
  ['State', ({ queue }) => (queue.pausedAt ? badge('paused') : limited(queue) ? badge('limited', 'plain') : '')],
  ['Ready', ({ stats }) => count(stats.ready), 'number'],
  ['Oldest', ({ stats }) => span(ms(stats.oldestReady)), 'number'],
  ['Running', ({ stats }) => number(stats.running), 'number'],
  ['Scheduled', ({ stats }) => count(stats.scheduled), 'number'],
  ['In/s', ({ stats }) => rate(stats.enqueuedPerSecond), 'number'],
  ['Out/s', ({ stats }) => rate(stats.completedPerSecond), 'number'],
  ['Dead', ({ queue, stats }) => (Number(stats.dead.jobs) ? h('a', { href: link('dead', queue.name) }, count(stats.dead)) : '0'), 'number'],
  ['Sessions', ({ stats }) => number(stats.sessions), 'number'],
  ['Action', ({ queue }) => pauseButton(page, queue)],
];

const limited = ({ settings: of }) => of && (
  of.concurrencyMax || of.rate || of.keyConcurrencyMax || of.keyRate || of.keyOrdered
);

function pauseButton(page, queue) {
  const verb = queue.pausedAt ? 'Resume' : 'Pause';
  const act = () => page.act(`${verb} of ${queue.name}`, async () => {
    await call(`QueueService/${verb}`, { queue: queue.name });
  });
  return h('button', { type: 'button', onclick: act, 'data-key': `pause ${queue.name}`, 'aria-label': `${verb} ${queue.name}` }, verb);
}

export async function overview(page) {
  const latency = watchLatency(page);
  await page.follow('QueueService/WatchStats', { pageSize: 100 }, ({ queues, more }) => {
    remember(queues);
    const sum = (of) => queues.reduce((total, { stats }) => total + Number(of(stats)), 0);
    const jobs = (state) => count({
      jobs: sum((it) => it[state].jobs), exact: queues.every(({ stats }) => stats[state].exact),
    });
    const oldest = Math.max(0, ...queues.map(({ stats }) => ms(stats.oldestReady) || 0));
    page.draw(
      h('h1', {}, 'Overview'),
      cards([
        ['Ready', jobs('ready')],
        ['Oldest ready', oldest ? span(oldest) : '–'],
        ['Running', number(sum((it) => it.running))],
        ['Scheduled', jobs('scheduled')],
        ['Dead', jobs('dead')],
        ['In', rate(sum((it) => it.enqueuedPerSecond)), '/s'],
        ['Out', rate(sum((it) => it.completedPerSecond)), '/s'],
        latency('Starts within', 'start'),
        latency('Runs for', 'run'),
      ]),
      chart(samples),
      table('Queues', queueColumns(page), queues, 'No queue yet: the first job or worker that names one makes it.'),
      more ? h('p', { class: 'soft' }, 'The first 100 queues. ', h('a', { href: '#/queues' }, 'All queues')) : null,
    );
  });
}

export async function queues(page, after = '') {
  await page.follow('QueueService/WatchStats', { pageSize: 50, after }, ({ queues: found, more }) => page.draw(
    h('h1', {}, 'Queues'),
    table('Queues', queueColumns(page), found, 'No queue here.'),
    h('p', { class: 'row' },
      after ? h('a', { href: '#/queues' }, 'From the first') : null,
      more ? h('a', { href: link('queues-after', found.at(-1).queue.name) }, 'Next page') : null),
  ));
}

export async function queue(page, name) {
  const settings = h('div');
  const head = h('div', {}, h('h1', {}, name));
  page.draw(head, settings);
  const draw = async () => {
    const { queue: it } = await page.ask('QueueService/Get', { queue: name });
    const kept = (value) => (value === '0s' ? 'for ever' : span(ms(value)));
    const it2 = it.effective;
    page.update(settings,
      h('h2', {}, 'Limits'), limitForm(page, it, draw),
      h('h2', {}, 'What holds for its jobs'),
      facts([
        ['Priority', String(it2.priority ?? 0)],
        ['Attempts', number(it2.maxAttempts)],
        ['Time-out', it2.timeout ? span(ms(it2.timeout)) : 'none'],
        ['Succeeded jobs are kept', kept(it2.keepSucceeded)],
        ['Cancelled', kept(it2.keepCancelled)],
        ['Dead', kept(it2.keepDead)],
      ]),
    );
    return it;
  };
  let current = await draw();
  await poll(page, asked('QueueService/Stats', { queue: name }, (stats) => {
    const button = h('span', { class: 'row' },
      current.pausedAt ? badge('paused') : null,
      pauseButton({ ...page, act: (what, doIt) => page.act(what, async () => { await doIt(); current = await draw(); }) }, current),
      h('a', { href: link('jobs', name) }, 'Jobs'));
    page.update(head,
      h('div', { class: 'head' }, h('h1', {}, name), button),
      cards([
        ['Ready', count(stats.ready)], ['Oldest ready', span(ms(stats.oldestReady))], ['Running', number(stats.running)],
        ['Scheduled', count(stats.scheduled)], ['Succeeded', count(stats.succeeded)], ['Dead', count(stats.dead)],
        ['Cancelled', count(stats.cancelled)], ['In', rate(stats.enqueuedPerSecond), '/s'],
        ['Out', rate(stats.completedPerSecond), '/s'], ['Sessions', number(stats.sessions)],
      ]));
  }));
}

// --- Jobs

const jobColumns = [
  ['Job', (job) => h('a', { href: link('job', job.queue, job.jobId), class: 'mono' }, job.jobId)],
  ['Kind', (job) => job.kind],
  ['State', (job) => badge(stateName(job.state))],
  ['Priority', (job) => job.priority, 'number'],
  ['Attempt', (job) => job.attempt, 'number'],
  ['Failures', (job) => `${job.failures} of ${job.maxAttempts}`, 'number'],
  ['Created', (job) => time(job.createdAt)],
  ['Starts / ended', (job) => time(job.finishedAt || (stateName(job.state) === 'scheduled' ? job.runAt : null))],
  ['Error', (job) => h('div', { class: 'cut', title: job.error }, job.error)],
];

// A page looks at so many jobs and no more, whatever it finds.
const none = { soFar: 'None so far. “Older” looks further.', dead: 'No dead jobs here.', found: 'No jobs like this.' };

async function allQueues(page) {
  const names = [];
  let pageToken = '';
  do {
    const found = await page.ask('QueueService/List', { pageSize: 1000, pageToken });
    names.push(...found.queues.map((one) => one.name));
    pageToken = found.nextPageToken;
  } while (pageToken && names.length < 5000);
  return names;
}

export async function jobs(page, queueName = '', only = '') {
  const names = await allQueues(page);
  const dead = only === 'dead';
  if (!names.length) {
    page.draw(h('h1', {}, dead ? 'Dead letters' : 'Jobs'), h('p', { class: 'empty' }, 'No queue yet, so there are no jobs.'));
    return;
  }
  const chosen = names.includes(queueName) ? queueName : names[0];
  const list = h('div');
  const state = { tokens: [''], filter: null };
  const option = (value, text, selected) => h('option', { value, selected }, text);
  const form = h('form', { class: 'filters' },
    h('label', {}, 'Queue', h('select', { name: 'queue' }, names.map((name) => option(name, name, name === chosen)))),
    dead ? null : h('label', {}, 'State', h('select', { name: 'state' }, option('', 'any'), STATES.map((one) => option(one, one)))),
    h('label', {}, 'Kind', h('input', { name: 'kind', size: 12 })),
    h('label', {}, 'Tag', h('input', { name: 'tag', size: 15, placeholder: 'name or name=value' })),
    h('label', {}, 'Error contains', h('input', { name: 'error', size: 12 })),
    h('label', {}, 'Created before', h('input', { name: 'before', type: 'datetime-local' })),
    h('button', { class: 'main' }, 'Find'));
  const read = () => {
    const at = Object.fromEntries(new FormData(form));
    const states = dead ? ['dead'] : at.state ? [at.state] : [];
    const filter = { queue: at.queue, states: states.map((one) => `JOB_STATE_${one.toUpperCase()}`) };
    for (const name of ['kind', 'tag', 'error']) if (at[name]) filter[name] = at[name];
    if (at.before) filter.createdBefore = new Date(at.before).toISOString();
    return filter;
  };
  const show = async () => {
    const pageToken = state.tokens.at(-1);
    const found = await page.ask('JobService/List', { filter: state.filter, newestFirst: true, pageSize: 50, pageToken });
    page.live(true, `as of ${new Date().toLocaleTimeString()}`);
    const more = found.nextPageToken;
    const go = (doIt) => () => { doIt(); page.guard(show()); };
    page.update(list,
      bulk(page, state.filter, dead, show),
      table('Jobs', jobColumns, found.jobs, more ? none.soFar : dead ? none.dead : none.found),
      h('p', { class: 'row' },
        h('button', { type: 'button', disabled: state.tokens.length < 2, onclick: go(() => state.tokens.pop()) }, 'Newer'),
        h('button', { type: 'button', disabled: !more, onclick: go(() => state.tokens.push(more)) }, 'Older')),
    );
  };
  const find = (event) => {
    event?.preventDefault();
    state.filter = read();
    state.tokens = [''];
    history.replaceState(null, '', link(dead ? 'dead' : 'jobs', state.filter.queue));
    page.guard(show());
  };
  form.addEventListener('submit', find);
  form.elements.queue.addEventListener('change', find);
  form.elements.state?.addEventListener('change', find);
  page.draw(h('h1', {}, dead ? 'Dead letters' : 'Jobs'), form, list);
  state.filter = read();
  await show();
}

export const dead = (page, queueName) => jobs(page, queueName, 'dead');

/** What can be done to all that a filter finds. */
function bulk(page, filter, onlyDead, show) {
  const progress = h('span', { class: 'soft', role: 'status' });
  const every = async (verb, change) => {
    const what = onlyDead ? 'dead jobs' : 'jobs found';
    if (!await page.confirm(`${verb} all ${what}?`, `All ${what} of ${filter.queue} that the filter finds, on other pages too.`, verb)) return;
    await page.act(`${verb} all`, async () => {
      let last = { found: 0, changed: 0 };
      await stream('JobService/ChangeAll', { filter, change }, (message) => {
        last = message;
        progress.textContent = `${number(last.changed)} of ${number(last.found)} so far`;
      }, page.signal);
      await show();
      return `${number(last.changed)} of ${number(last.found)} jobs`;
    });
  };
  const button = (verb, change, kind) => h('button', { type: 'button', class: kind, onclick: () => every(verb, change) }, `${verb} all`);
  return h('p', { class: 'row' },
    button('Retry', 'CHANGE_RETRY'), onlyDead ? null : button('Cancel', 'CHANGE_CANCEL', 'danger'),
    button('Delete', 'CHANGE_DELETE', 'danger'), progress);
}

export async function job(page, queueName, id) {
  let again;
  const draw = async () => {
    const { job: it, failedAttempts } = await page.ask('JobService/Get', { jobId: id, queue: queueName });
    const state = stateName(it.state);
    const over = ['succeeded', 'dead', 'cancelled'].includes(state);
    const why = over ? null : await page.ask('JobService/Explain', { jobId: id, queue: queueName });
    const one = (verb, ask) => async () => {
      if (ask && !await page.confirm(`${verb} this job?`, `Job ${id} of ${queueName}.`, verb)) return;
      await page.act(verb, async () => {
        const { verdicts } = await call(`JobService/${verb}`, { jobIds: [id], queue: queueName });
        if (verb === 'Delete') location.hash = link('jobs', queueName);
        else await draw();
        again?.();
        return verdicts[0].replace(/^[A-Z]+_VERDICT_/, '').toLowerCase().replace('_', ' ');
      });
    };
    const button = (verb, disabled, ask) => h('button', { type: 'button', disabled, class: ask ? 'danger' : null, onclick: one(verb, ask) }, verb);
    page.draw(
      h('div', { class: 'head' },
        h('h1', {}, 'Job ', h('span', { class: 'mono' }, id), ' ', badge(state)),
        h('span', { class: 'row' },
          button('Cancel', over, true), button('Retry', !['dead', 'cancelled'].includes(state), false), button('Delete', state === 'running', true))),
      why ? h('p', { class: 'soft' }, why.message, ' ',
        Number(why.heldUpBy) ? h('a', { href: link('job', queueName, why.heldUpBy) }, 'That job') : null) : null,
      facts([
        ['Queue', h('a', { href: link('queues', queueName) }, queueName)], ['Kind', it.kind], ['Key', it.key], ['Priority', String(it.priority)],
        ['Attempt', String(it.attempt)], ['Failures', `${it.failures} of ${it.maxAttempts}`],
        ['Tags', it.tags.join(', ')], ['Metadata', Object.entries(it.metadata).map(([name, value]) => `${name}=${value}`).join(', ')],
        ['Progress', it.progress ? `${Math.round(it.progress.percent || 0)} % ${it.progress.message}` : null],
        ['Expires', it.expireAt ? moment(it.expireAt) : null],
        ['Time-out', it.timeout ? span(ms(it.timeout)) : null], ['Trace', it.traceparent ? h('code', {}, it.traceparent) : null],
      ]),
      h('h2', {}, 'What happened'), line(it, state, failedAttempts),
      it.hidden ? h('p', { class: 'soft' }, 'Payload, result and errors are hidden: the token has the scope view, not read.') : null,
      it.payload ? [h('h2', {}, 'Payload'), block('Payload', bytes(it.payload, it.contentType))] : null,
      it.result ? [h('h2', {}, 'Result'), block('Result', bytes(it.result))] : null,
    );
  };
  await draw();
  while (!page.signal.aborted) {
    // Ends when the job is over; what is done to it here may begin it anew.
    const acted = new Promise((done) => { again = done; });
    await page.follow('JobService/Watch', { jobId: id, queue: queueName }, ({ job: changed }) => {
      if (changed) page.guard(draw());
    });
    await acted;
  }
}

function line(it, state, failed) {
  const event = (kind, name, at, ...more) => h('li', { class: kind }, h('strong', {}, name), ' ', h('span', { class: 'soft' }, at ? moment(at) : ''), more);
  return h('ol', { class: 'line' },
    event('plain', 'Enqueued', it.createdAt),
    failed.map((one) => event('dead', `Attempt ${one.attempt} failed`, one.failedAt,
      h('div', {}, one.class ? `${one.class}: ` : '', one.error, one.worker ? h('span', { class: 'soft' }, ` (worker ${one.worker})`) : null),
      one.details ? h('details', {}, h('summary', { 'data-key': `details ${one.attempt}` }, 'Details'), block(`Details of attempt ${one.attempt}`, one.details)) : null)),
    it.attempt > failed.length && it.claimedAt ? event('running', `Attempt ${it.attempt} taken`, it.claimedAt) : null,
    state === 'scheduled' ? event('scheduled', 'Starts', it.runAt) : null,
    it.finishedAt ? event(state, `Is ${state}`, it.finishedAt) : null);
}

// --- Schedules, workers, brokers

export async function schedules(page) {
  const word = (value, prefix) => (value || '').replace(prefix, '').toLowerCase().replace('_', ' ');
  const act = (name, verb, ask) => async () => {
    if (ask && !await page.confirm(`${verb} the schedule ${name}?`, 'It fires no more. Its jobs stay.', verb)) return;
    await page.act(`${verb} ${name}`, async () => {
      const answer = await call(`ScheduleService/${verb}`, { name });
      all(await call(all.call, all.body));
      return answer.jobId ? `job ${answer.jobId}` : undefined;
    });
  };
  const button = (name, verb, text, ask) => h('button', { type: 'button', class: ask ? 'danger' : null, onclick: act(name, verb, ask), 'data-key': `${verb.replace('Resume', 'Pause')} ${name}`, 'aria-label': `${text} ${name}` }, text);
  // Those of the last look stay until the new ones are there.
  const known = new Map();
  const lines = (name) => (known.get(name) || []).map((at) => h('div', { class: 'nowrap' }, moment(at)));
  const fires = async (name, into) => {
    known.set(name, (await page.ask('ScheduleService/NextFires', { name, count: 5 })).fires);
    into.replaceChildren(...lines(name));
  };
  const all = asked('ScheduleService/List', { pageSize: 1000 }, ({ schedules: found }) => {
    page.draw(h('h1', {}, 'Schedules'), table('Schedules', [
      ['Name', ({ schedule }) => schedule.name, 'nowrap'],
      ['State', (it) => (it.pausedAt ? badge('paused') : it.fromFile ? badge('from file', 'plain') : '')],
      ['Pattern', ({ schedule }) => [h('code', {}, schedule.cron), h('div', { class: 'soft' }, schedule.timeZone || 'UTC')], 'nowrap'],
      ['Job', ({ schedule }) => `${schedule.job.queue} / ${schedule.job.kind}`],
      ['Next', (it) => {
        const into = h('div', {}, lines(it.schedule.name));
        return h('details', { ontoggle: (event) => event.target.open && page.guard(fires(it.schedule.name, into)) },
          h('summary', { class: 'nowrap', 'data-key': `next ${it.schedule.name}` }, it.pausedAt ? '–' : time(it.nextFire)), into);
      }],
      ['Last', (it) => (it.lastFire ? h('a', { href: link('job', it.schedule.job.queue, it.lastJobId) }, time(it.lastFire)) : '–')],
      ['Missed', ({ schedule }) => word(schedule.catchUp, 'CATCH_UP_')],
      ['Overlap', ({ schedule }) => word(schedule.overlap, 'OVERLAP_')],
      ['Actions', (it) => h('span', { class: 'row whole' },
        it.pausedAt ? button(it.schedule.name, 'Resume', 'Resume') : button(it.schedule.name, 'Pause', 'Pause'),
        button(it.schedule.name, 'RunNow', 'Run now'), button(it.schedule.name, 'Delete', 'Delete', true))],
    ], found, 'No schedules.'));
  });
  await poll(page, all);
}

export async function workers(page, pageToken = '') {
  await poll(page, asked('BrokerService/ListSessions', { pageSize: 100, pageToken }, ({ sessions, nextPageToken }) => page.draw(
    h('h1', {}, 'Workers'),
    h('p', { class: 'soft' }, 'Sessions of the broker that shows this page; other brokers have theirs.'),
    table('Sessions', [
      ['Worker', (it) => it.worker || '(no name)'],
      ['Session', (it) => h('span', { class: 'mono' }, `${it.id}…`)],
      ['State', (it) => (it.attached ? badge('attached', 'alive') : badge('away', 'paused'))],
      ['Queues', (it) => h('div', { class: 'cut', title: it.queues.join(', ') }, it.queues.join(', '))],
      ['Holds', (it) => `${number(it.held)} of ${number(it.maxInFlight)}`, 'number'],
      ['At a time', (it) => number(it.concurrency), 'number'],
      ['Seen', (it) => `${span(ms(it.seen))} ago`, 'number'],
    ], sessions, 'No worker is connected to this broker.'),
    h('p', { class: 'row' }, pageToken ? h('a', { href: '#/workers' }, 'From the first') : null,
      nextPageToken ? h('a', { href: link('workers', nextPageToken) }, 'Next page') : null),
  )));
}

export async function brokers(page) {
  await poll(page, asked('BrokerService/ListBrokers', {}, ({ brokers: found }) => page.draw(
    h('h1', {}, 'Brokers'),
    table('Brokers', [
      ['Broker', (it) => it.name],
      ['Id', (it) => it.id, 'number'],
      ['State', (it) => (it.deadAt ? badge('ended', 'dead') : badge(it.answers ? 'this one' : 'lives', 'alive'))],
      ['Heartbeat', (it) => time(it.heartbeatAt)],
      ['Sessions', (it) => number(it.sessions), 'number'],
      ['Jobs', (it) => number(it.held), 'number'],
      ['Owns limited queues', (it) => it.ownedQueues.join(', ') || '–'],
    ], found, 'No broker.'),
  )));
}
