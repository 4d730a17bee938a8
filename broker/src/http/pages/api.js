// Calls of the broker, as JSON. The token stays in this tab.

export class Refused extends Error {
  constructor(status, body) {
    super(body.message || `the broker answered ${status}`);
    this.code = body.code || 'unknown';
    this.reason = body.reason;
  }
}

const KEY = 'currant-token';
let askForToken = async () => null;

export const signedIn = () => sessionStorage.getItem(KEY) !== null;
export const signOut = () => sessionStorage.removeItem(KEY);
export const signIn = (token) => sessionStorage.setItem(KEY, token);
/** `ask` returns when there is a new token to try; it is given what was wrong with the last. */
export const onTokenNeeded = (ask) => { askForToken = ask; };

function authorized(headers) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...headers, authorization: `Bearer ${token}` } : headers;
}

async function send(call, body, signal) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = authorized({ 'content-type': 'application/json' });
    let response;
    try {
      const url = `../api/currant.v1.${call}`;
      response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Refused(0, { code: 'unreachable', message: 'The broker cannot be reached.' });
    }
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    if (response.status !== 401) throw new Refused(response.status, problem);
    await askForToken(token ? problem.message : '');
  }
}

/** Makes a call and returns its answer. */
export async function call(name, body = {}, signal = undefined) {
  return (await send(name, body, signal)).json();
}

/** What the port shows at a path as text; null to who may not see it. */
export async function text(path, signal) {
  const response = await fetch(`../${path}`, { headers: authorized({}), signal });
  return response.ok ? response.text() : null;
}

/** Makes a call that answers with a stream; `each` is given every message. Returns when it has ended. */
export async function stream(name, body, each, signal) {
  const response = await send(name, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === 'AbortError') throw error;
      return { done: true };
    });
    if (done) throw new Refused(0, { code: 'unreachable', message: 'The connection to the broker broke off.' });
    text += value;
    let end;
    while ((end = text.indexOf('\n\n')) >= 0) {
      const event = text.slice(0, end);
      text = text.slice(end + 2);
      const data = JSON.parse(event.slice(event.indexOf('data: ') + 6));
      if (event.startsWith('event: error')) throw new Refused(200, data);
      if (event.startsWith('event: end')) return;
      each(data);
    }
  }
}
