/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* properties.h - a message's MQTT 5 properties are read. */
#ifndef EPROXY_ADMIT_PROPERTIES_H
#define EPROXY_ADMIT_PROPERTIES_H

#include "alias.h"

/*
 * Reads the properties in s->properties.raw, of a message of this connection, and what they say of its topic. Returns enum reason. A function of its own, so that the verifier follows it
 * once, and messages without any do not pay for it.
 */
__attribute__((noinline)) int properties_read(__u32 hook, __u32 conn, __u32 gen)
{
	struct scratch *s = scratch_of(hook);
	enum reason reason;

	if (!s)
		return REASON_PROPERTIES;
	reason = properties_scan(s->properties.raw, s->publish.properties, &s->properties.read);
	if (reason)
		return reason;
	if (s->properties.read.alias)
		return alias_topic(hook, conn, gen);
	return s->publish.topic_len ? REASON_TAKEN : REASON_PROPERTIES;
}

#endif
