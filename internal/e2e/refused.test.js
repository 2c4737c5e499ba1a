// A page whose origin the operator has not named, next to one whose origin is named.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clients, open } from './browser.js';
import { newPassword, receiver, setting, smtpSettings } from './support.js';

const user = 'allowed';

test('calls of the other page are refused, and change nothing', async () => {
  const allowed = await open(setting('PAGE'), 'connect-web.gRPC-Web');
  const { response } = await allowed('addSMTPConfig', { ...smtpSettings(user), password: await newPassword(user) });
  const { id } = response;
  const sendTest = async () => {
    const { error } = await allowed('testSMTPConfigById', { id, receiverAddress: receiver(user, 1) });
    assert.equal(error, undefined);
  };
  await sendTest();
  for (const client of Object.keys(clients)) {
    const refused = await open(setting('REFUSED_PAGE'), client);
    const { headers, response, error } = await refused('updateSMTPConfigPassword', { id, password: 'of the other page' });
    assert.deepEqual({ headers, response }, { headers: {}, response: undefined }, client);
    assert.ok(error, client);
  }
  await sendTest();
});
