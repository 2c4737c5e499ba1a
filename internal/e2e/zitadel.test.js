// @zitadel/client and the messages of @zitadel/proto in Node, over gRPC and gRPC-Web, with the
// deprecated and the present generation of methods.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-node';
import { NewAuthorizationBearerInterceptor } from '@zitadel/client';
import { createServerTransport } from '@zitadel/client/node';
import { createAdminServiceClient } from '@zitadel/client/v1';
import { EmailProviderState, SMTPConfigState } from '@zitadel/proto/zitadel/settings_pb.js';
import { assertDetails, assertRecent, assertRefused, assertShows } from './messages.js';
import { assertDeprecated, newPassword, receiver, service, smtpSettings, token, unknownId } from './support.js';

const transports = {
  gRPC: (token) => createServerTransport(token, { baseUrl: service }),
  'gRPC-Web': (token) =>
    createGrpcWebTransport({
      baseUrl: service,
      httpVersion: '1.1',
      interceptors: [NewAuthorizationBearerInterceptor(token)],
    }),
};

// One generation: its methods under common names, and what it shows of a provider.
const generations = {
  SMTPConfig: {
    methods: (client) => ({
      add: client.addSMTPConfig,
      activate: client.activateSMTPConfig,
      deactivate: client.deactivateSMTPConfig,
      setPassword: client.updateSMTPConfigPassword,
      test: client.testSMTPConfigById,
      list: client.listSMTPConfigs,
      getActive: async () => (await client.getSMTPConfig({})).smtpConfig,
      get: async (request, options) => (await client.getSMTPConfigById(request, options)).smtpConfig,
      remove: client.removeSMTPConfig,
    }),
    shown: (settings) => settings,
    states: SMTPConfigState,
    active: 'SMTP_CONFIG_ACTIVE',
    inactive: 'SMTP_CONFIG_INACTIVE',
    deprecated: true,
  },
  EmailProvider: {
    methods: (client) => ({
      add: client.addEmailProviderSMTP,
      activate: client.activateEmailProvider,
      deactivate: client.deactivateEmailProvider,
      setPassword: client.updateEmailProviderSMTPPassword,
      test: client.testEmailProviderSMTPById,
      list: client.listEmailProviders,
      getActive: async () => (await client.getEmailProvider({})).config,
      get: async (request, options) => (await client.getEmailProviderById(request, options)).config,
      remove: client.removeEmailProvider,
    }),
    shown: ({ description, ...smtp }) => ({ description, config: { case: 'smtp', value: smtp } }),
    states: EmailProviderState,
    active: 'EMAIL_PROVIDER_ACTIVE',
    inactive: 'EMAIL_PROVIDER_INACTIVE',
    deprecated: false,
  },
};

for (const [transport, connect] of Object.entries(transports)) {
  for (const [name, generation] of Object.entries(generations)) {
    test(`${transport}, ${name}: life of a provider`, () => life(connect(token), generation, `${transport}.${name}`));
    test(`${transport}, ${name}: refusals`, () => refusals(connect, generation));
  }
  test(`${transport}: HTTP provider`, () => http(connect(token)));
}

async function life(transport, generation, user) {
  const api = generation.methods(createAdminServiceClient(transport));
  const settings = smtpSettings(user);
  const expected = (id, state) => ({ id, state: generation.states[state], ...generation.shown(settings) });

  const added = await api.add({ ...settings, password: await newPassword(user) });
  const { id } = added;
  assert.match(id, /^\d{18}$/);
  assertDetails(added.details);
  await api.test({ id, receiverAddress: receiver(user, 1) });

  const activated = await api.activate({ id });
  assert.ok(activated.details.sequence > added.details.sequence);
  assertShows(await api.getActive(), expected(id, generation.active));

  let headers;
  const changed = await api.setPassword({ id, password: await newPassword(user) }, { onHeader: (h) => (headers = h) });
  assert.ok(changed.details.sequence > activated.details.sequence);
  if (generation.deprecated) {
    assertDeprecated(
      { deprecation: headers.get('deprecation'), link: headers.get('link') },
      `/admin/v1/email/smtp/${id}/password`,
    );
  } else {
    assert.equal(headers.get('deprecation'), null);
  }
  await api.test({ id, receiverAddress: receiver(user, 2) });

  // The mail server has gone on to a third password: the second must not do any more.
  const third = await newPassword(user);
  await assertRefused(api.test({ id, receiverAddress: receiver(user, 2) }), Code.FailedPrecondition, 'EMAIL-s9kfs');
  await api.setPassword({ id, password: third });
  await api.test({ id, receiverAddress: receiver(user, 3) });

  const { details, result } = await api.list({ query: { limit: 1000 } });
  assert.equal(details.totalResult, BigInt(result.length));
  assert.ok(details.processedSequence > changed.details.sequence);
  assertRecent(details.viewTimestamp);
  assertShows(result.find((provider) => provider.id === id), expected(id, generation.active));

  await api.deactivate({ id });
  assertShows(await api.get({ id }), expected(id, generation.inactive));
  assertDetails((await api.remove({ id })).details);
  await assertRefused(api.get({ id }), Code.NotFound, 'QUERY-fwofw');
  await assertRefused(api.getActive(), Code.NotFound, 'QUERY-fwofw');
}

async function refusals(connect, generation) {
  const api = generation.methods(createAdminServiceClient(connect(token)));
  const request = { id: unknownId, password: 'x' };
  const notFound = await assertRefused(api.setPassword(request), Code.NotFound, 'COMMAND-rDHzqjGuKQ');
  assert.match(notFound.rawMessage, /^email provider not found \(COMMAND-rDHzqjGuKQ\)$/);
  await assertRefused(api.setPassword({ ...request, password: '' }), Code.InvalidArgument);
  await assertRefused(api.add({ ...smtpSettings('nobody'), host: 'mail' }), Code.InvalidArgument, 'COMMAND-EvAtufIinh');

  const stranger = generation.methods(createAdminServiceClient(connect('wrong')));
  await assertRefused(stranger.setPassword(request), Code.Unauthenticated, 'AUTH-7fs1e');
}

async function http(transport) {
  const client = createAdminServiceClient(transport);
  const { id, details } = await client.addEmailProviderHTTP({ endpoint: 'https://example.com/a', description: 'hook' });
  assertDetails(details);
  await client.updateEmailProviderHTTP({ id, endpoint: 'https://example.com/b', description: 'other hook' });
  assertShows((await client.getEmailProviderById({ id })).config, {
    id,
    state: EmailProviderState.EMAIL_PROVIDER_INACTIVE,
    description: 'other hook',
    config: { case: 'http', value: { endpoint: 'https://example.com/b' } },
  });
  await assertRefused(client.getSMTPConfigById({ id }), Code.NotFound, 'QUERY-fwofw');
  await client.removeEmailProvider({ id });
}
