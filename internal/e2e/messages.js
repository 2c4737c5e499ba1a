// Assertions on what Connect clients return.
import assert from 'node:assert/strict';
import { Code, ConnectError } from '@connectrpc/connect';
import { timestampDate } from '@zitadel/client';
import { ErrorDetailSchema } from '@zitadel/proto/zitadel/message_pb.js';

/** Wants a refusal with the code, and with the id, if any, in both message and ErrorDetail. */
export async function assertRefused(promise, code, id) {
  const error = await promise.then(
    () => assert.fail(`answered, want ${Code[code]} ${id ?? ''}`),
    (error) => error,
  );
  assert.ok(error instanceof ConnectError, error);
  assert.equal(Code[error.code], Code[code], error.message);
  if (id) {
    const [detail] = error.findDetails(ErrorDetailSchema);
    assert.equal(detail?.id, id);
    assert.equal(error.rawMessage, `${detail.message} (${id})`);
  }
  return error;
}

/** Wants details, these fields, and nothing else. */
export function assertShows(provider, expected) {
  assert.deepEqual(plain(provider), expected);
  assertDetails(provider.details);
}

/** The fields of a message as an object, without details; none may be unknown to the client. */
function plain({ $typeName, $unknown, details, ...fields }) {
  assertKnown($typeName, $unknown);
  if (fields.config?.case) {
    fields.config = { case: fields.config.case, value: plain(fields.config.value) };
  }
  return fields;
}

// What @zitadel/proto 1.3.1 is too old for: the oneof Auth, and the signing key.
const newer = {
  'zitadel.settings.v1.EmailProviderSMTP': [9, 10, 11],
  'zitadel.settings.v1.EmailProviderHTTP': [2],
};

function assertKnown(type, unknown = []) {
  for (const { no } of unknown) {
    assert.ok(newer[type]?.includes(no), `${type} has a field ${no} that @zitadel/proto does not know`);
  }
}

export function assertDetails(details) {
  assertKnown(details.$typeName, details.$unknown);
  assert.ok(details.sequence > 0n);
  assert.notEqual(details.resourceOwner, '');
  assertRecent(details.creationDate);
  assertRecent(details.changeDate);
}

export function assertRecent(timestamp) {
  const age = Date.now() - timestampDate(timestamp).getTime();
  assert.ok(age > -60_000 && age < 600_000, `${age} ms old`);
}
