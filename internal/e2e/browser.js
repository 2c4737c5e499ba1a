// Chromium for the tests, and page.js in it.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { service, setting, token } from './support.js';

let browser;

before(async () => {
  const executablePath = setting('CHROMIUM');
  assert.ok(existsSync(executablePath), `there is no ${executablePath}: apt-get install chromium`);
  browser = await chromium.launch({
    executablePath,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});

after(() => browser?.close());

/** The clients of page.js by name, with the content type that each puts on its calls. */
export const clients = {
  'connect-web.gRPC-Web': 'application/grpc-web+proto',
  'connect-web.Connect': 'application/json',
  'grpc-web.binary': 'application/grpc-web+proto',
  'grpc-web.text': 'application/grpc-web-text',
  fetch: 'application/json',
};

const streams = { ...clients, 'connect-web.Connect': 'application/connect+json' };

/**
 * Opens the page in a browser profile of its own, which remembers no preflight. Returns a function
 * that calls a method from it with one of the clients.
 */
export async function open(page, client) {
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(page);
  assert.notEqual(await tab.evaluate(() => origin), new URL(service).origin);
  tab.on('request', (request) => (tab.contentType = request.headers()['content-type'] ?? tab.contentType));
  return async (method, request, bearer = token) => {
    const result = await tab.evaluate((args) => globalThis.call(...args), [client, service, bearer, method, request]);
    assert.equal(tab.contentType, (method.startsWith('watch') ? streams : clients)[client]);
    return result;
  };
}
