// Web clients in a page of another origin than the service's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { clients, open } from './browser.js';
import { assertDeprecated, newPassword, receiver, setting, smtpSettings, unknownId } from './support.js';

for (const client of Object.keys(clients)) {
  test(`${client}: passwords`, () => passwords(client));
  test(`${client}: refusals`, () => refusals(client));
}

async function passwords(client) {
  const call = await open(setting('PAGE'), client);
  const settings = smtpSettings(client);
  const added = await call('addSMTPConfig', { ...settings, password: await newPassword(client) });
  const id = added.response?.id;
  assert.match(id ?? '', /^\d{18}$/, JSON.stringify(added));
  assertAnswered(await call('testSMTPConfigById', { id, receiverAddress: receiver(client, 1) }));

  const deprecated = await call('updateSMTPConfigPassword', { id, password: await newPassword(client) });
  assertAnswered(deprecated);
  assertDeprecated(deprecated.headers, `/admin/v1/email/smtp/${id}/password`);
  assertAnswered(await call('testSMTPConfigById', { id, receiverAddress: receiver(client, 2) }));

  const present = await call('updateEmailProviderSMTPPassword', { id, password: await newPassword(client) });
  assertAnswered(present);
  assert.equal(present.headers.deprecation, undefined);
  assert.ok(BigInt(present.response.details.sequence) > BigInt(deprecated.response.details.sequence));
  assertAnswered(await call('testEmailProviderSMTPById', { id, receiverAddress: receiver(client, 3) }));

  const { details, ...shown } = (await call('getSMTPConfigById', { id })).response.smtpConfig;
  assert.deepEqual(shown, { id, state: 'SMTP_CONFIG_INACTIVE', ...settings });
}

async function refusals(client) {
  const call = await open(setting('PAGE'), client);
  const request = { id: unknownId, password: 'x' };
  for (const method of ['updateSMTPConfigPassword', 'updateEmailProviderSMTPPassword']) {
    assertRefused(await call(method, request), Code.NotFound, 'COMMAND-rDHzqjGuKQ', 'email provider not found');
  }
  assertDeprecated((await call('updateSMTPConfigPassword', request)).headers, `/admin/v1/email/smtp/${unknownId}/password`);
  assertRefused(await call('updateSMTPConfigPassword', request, 'wrong'), Code.Unauthenticated, 'AUTH-7fs1e');
}

function assertAnswered({ response, error }) {
  assert.ok(response, JSON.stringify(error));
}

function assertRefused({ error }, code, id, text) {
  assert.equal(Code[error?.code], Code[code], JSON.stringify(error));
  assert.equal(error.id, id);
  assert.ok(error.message.endsWith(` (${id})`), error.message);
  if (text) {
    assert.equal(error.message, `${text} (${id})`);
  }
}
