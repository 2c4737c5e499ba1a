// Mailkeep's own services. Nobody publishes code for them, so it is made here from descriptors.
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

/** Reads a FileDescriptorSet: methods by their local name, and the report that refusals carry. */
export function readServices(descriptors) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  return {
    methods: {
      ...registry.getService('mailkeep.v1.MessageService').method,
      ...registry.getService('mailkeep.v1.ProviderService').method,
    },
    report: registry.getMessage('mailkeep.v1.VerificationReport'),
  };
}
