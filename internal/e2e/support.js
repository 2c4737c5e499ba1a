// What the tests in Node share: the service and the mail server that the Go test runs.
import assert from 'node:assert/strict';

function setting(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: run this through go test, see e2e_test.go`);
  return value;
}

export const service = setting('MAILKEEP_URL');
export const token = setting('MAILKEEP_TOKEN');
export const mailServer = setting('MAIL_SERVER');
export { setting };

export const unknownId = '123456789012345678';

/** Gives the user a new password at the mail server, which takes no older one from now on. */
export async function newPassword(user) {
  const response = await fetch(`${setting('MAIL_CONTROL')}/${user}`, { method: 'POST' });
  assert.equal(response.status, 200);
  return response.json();
}

/** Address that tells the Go test which version of the user's password a mail must be sent with. */
export const receiver = (user, version) => `${user}.v${version}@example.com`;

/** Every setting of an SMTP provider, each with a value of its own. */
export const smtpSettings = (user) => ({
  senderAddress: 'from@example.com',
  senderName: 'From Ä',
  tls: true,
  host: mailServer,
  user,
  replyToAddress: 'reply@example.com',
  description: `of ${user}`,
});

/** Wants the headers that deprecated methods answer with (RFC 9745, RFC 8288). */
export function assertDeprecated({ deprecation, link }, path) {
  assert.match(deprecation ?? '', /^@\d+$/);
  assert.equal(link, `<${path}>; rel="successor-version"`);
}
