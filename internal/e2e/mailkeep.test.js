// Mailkeep's own services: mails, and the password they are sent with, from a page of another origin
// and from Node.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fromJson, toJson } from '@bufbuild/protobuf';
import { Code, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { NewAuthorizationBearerInterceptor } from '@zitadel/client';
import { AdminService } from '@zitadel/proto/zitadel/admin_pb.js';
import { ErrorDetailSchema } from '@zitadel/proto/zitadel/message_pb.js';
import { open } from './browser.js';
import { readServices } from './mailkeep.js';
import { newPassword, receiver, service, setting, smtpSettings, token } from './support.js';

for (const client of ['connect-web.gRPC-Web', 'connect-web.Connect']) {
  test(client, async () => mailsAcrossARotation(await open(setting('PAGE'), client), client));
}
test('node.gRPC', () => mailsAcrossARotation(nodeCalls(), 'node.gRPC'));

/** What open returns, in Node over gRPC. */
function nodeCalls() {
  const { methods, report } = readServices(readFileSync(setting('DESCRIPTORS')));
  const transport = createGrpcTransport({ baseUrl: service, interceptors: [NewAuthorizationBearerInterceptor(token)] });
  return async (name, request) => {
    const method = AdminService.method[name] ?? methods[name];
    const answer = createClient(method.parent, transport)[name](fromJson(method.input, request));
    try {
      if (method.methodKind === 'unary') {
        return { response: toJson(method.output, await answer) };
      }
      const response = [];
      for await (const message of answer) {
        response.push(toJson(method.output, message));
      }
      return { response };
    } catch (error) {
      const [detail] = error.findDetails(report);
      const [{ id } = {}] = error.findDetails(ErrorDetailSchema);
      return { error: { code: error.code, message: error.rawMessage, id, report: detail && toJson(report, detail) } };
    }
  };
}

async function mailsAcrossARotation(call, user) {
  const { id } = await answer('addEmailProviderSMTP', { ...smtpSettings(user), password: await newPassword(user) });
  await answer('activateEmailProvider', { id });
  await mail(1);

  const { error } = await call('rotatePassword', { id, password: 'not-the-password' });
  assert.equal(Code[error?.code], Code[Code.FailedPrecondition], JSON.stringify(error));
  assert.equal(error.id, 'EMAIL-s9kfs');
  const refused = error.report.steps.at(-1);
  assert.deepEqual([refused.step, refused.passed ?? false, refused.code], ['auth', false, 535]);
  await mail(1);

  const { credentialVersion, report } = await answer('rotatePassword', { id, password: await newPassword(user) });
  assert.equal(credentialVersion, '2');
  assert.deepEqual(
    report.steps.map(({ step, passed }) => [step, passed]),
    ['dns', 'tcp', 'tls', 'greeting', 'ehlo', 'auth'].map((step) => [step, true]),
  );
  await mail(2);

  async function answer(method, request) {
    const { response, error } = await call(method, request);
    assert.ok(response, `${method}: ${JSON.stringify(error)}`);
    return response;
  }

  /** Sends a mail and follows it to its end, which must come with this version of the credential. */
  async function mail(version) {
    const { id } = await answer('sendMessage', { to: [receiver(user, version)], subject: 'Grüße', text: 'It works.' });
    const changes = await answer('watchMessages', { id });
    const { message } = changes.at(-1);
    assert.deepEqual(
      [message.id, message.state, message.credentialVersion, message.recipients[0].state],
      [id, 'MESSAGE_STATE_DELIVERED', `${version}`, 'RECIPIENT_STATE_ACCEPTED'],
    );
  }
}
