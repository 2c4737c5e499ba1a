// Runs in the page: every web client behind one function, which is all that the tests call.
import { fromBinary, fromJson, toBinary, toJson } from '@bufbuild/protobuf';
import { ConnectError, createClient } from '@connectrpc/connect';
import { findTrailerError } from '@connectrpc/connect/protocol-grpc';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web';
import { AdminService } from '@zitadel/proto/zitadel/admin_pb.js';
import { ErrorDetailSchema } from '@zitadel/proto/zitadel/message_pb.js';
import { GrpcWebClientBase, MethodDescriptor, MethodType } from 'grpc-web';
import { readServices } from './mailkeep.js';

const clients = {
  'connect-web.gRPC-Web': connectWeb(createGrpcWebTransport),
  'connect-web.Connect': connectWeb(createConnectTransport),
  'grpc-web.binary': googleWeb('binary'),
  'grpc-web.text': googleWeb('text'),
  fetch: plainFetch,
};

/**
 * Calls a method of AdminService, or of Mailkeep's own services, with a JSON request. The result has
 * headers, those of the answer that the browser lets scripts read, and response as JSON (of a stream
 * an array) or error {code, message, id, report}.
 */
globalThis.call = async (client, service, token, method, request) =>
  clients[client](service, token, AdminService.method[method] ?? (await own()).methods[method], request);

/** Mailkeep's own services. */
async function own() {
  const answer = await fetch('descriptors.binpb');
  return readServices(new Uint8Array(await answer.arrayBuffer()));
}

function connectWeb(createTransport) {
  return async (service, token, method, request) => {
    let headers = new Headers();
    const client = createClient(method.parent, createTransport({ baseUrl: service }));
    const options = { headers: { Authorization: `Bearer ${token}` }, onHeader: (h) => (headers = h) };
    try {
      const answer = client[method.localName](fromJson(method.input, request), options);
      const response = method.methodKind === 'unary' ? toJson(method.output, await answer) : await all(method, answer);
      return { headers: Object.fromEntries(headers), response };
    } catch (error) {
      return { headers: Object.fromEntries(error.metadata), error: await explain(method, error) };
    }
  };
}

/** Every message of a stream. */
async function all(method, stream) {
  const messages = [];
  for await (const message of stream) {
    messages.push(toJson(method.output, message));
  }
  return messages;
}

async function explain(method, error) {
  if (method.parent === AdminService) {
    return refusal(error);
  }
  const { report } = await own();
  const [detail] = error.findDetails(report);
  return { ...refusal(error), report: detail && toJson(report, detail) };
}

function refusal(error) {
  const [detail] = error.findDetails(ErrorDetailSchema);
  return { code: error.code, message: error.rawMessage, id: detail?.id };
}

function googleWeb(format) {
  return async (service, token, method, request) => {
    const descriptor = new MethodDescriptor(
      `/${AdminService.typeName}/${method.name}`,
      MethodType.UNARY,
      Object,
      Object,
      (message) => toBinary(method.input, message),
      (bytes) => fromBinary(method.output, bytes),
    );
    // The headers come before or after the outcome, but always.
    let haveHeaders;
    const headers = new Promise((resolve) => (haveHeaders = resolve));
    const outcome = await new Promise((resolve) => {
      new GrpcWebClientBase({ format })
        .rpcCall(
          service + descriptor.getName(),
          fromJson(method.input, request),
          { Authorization: `Bearer ${token}` },
          descriptor,
          (error, response) =>
            resolve(error ? { error: googleRefusal(error) } : { response: toJson(method.output, response) }),
        )
        .on('metadata', haveHeaders);
    });
    return { headers: await headers, ...outcome };
  };
}

/** The code and message are grpc-web's own reading of the trailers; details it leaves to others. */
function googleRefusal({ code, message, metadata }) {
  const details = findTrailerError(new Headers(metadata));
  return { code, message, id: details && refusal(details).id };
}

async function plainFetch(service, token, { localName }, { id, ...body }) {
  const [verb, path] = {
    addSMTPConfig: ['POST', '/admin/v1/smtp'],
    getSMTPConfigById: ['GET', `/admin/v1/smtp/${id}`],
    updateSMTPConfigPassword: ['PUT', `/admin/v1/smtp/${id}/password`],
    testSMTPConfigById: ['POST', `/admin/v1/smtp/${id}/_test`],
    updateEmailProviderSMTPPassword: ['PUT', `/admin/v1/email/smtp/${id}/password`],
    testEmailProviderSMTPById: ['POST', `/admin/v1/email/smtp/${id}/_test`],
  }[localName];
  try {
    const answer = await fetch(service + path, {
      method: verb,
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
      body: verb === 'GET' ? undefined : JSON.stringify(body),
    });
    const headers = Object.fromEntries(answer.headers);
    const json = await answer.json();
    return answer.ok
      ? { headers, response: json }
      : { headers, error: { code: json.code, message: json.message, id: json.details?.[0].id } };
  } catch (error) {
    return { headers: {}, error: { message: error.message } };
  }
}
