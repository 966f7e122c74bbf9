/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* properties.h - a message's MQTT 5 properties are read. */
#ifndef EPROXY_ADMIT_PROPERTIES_H
#define EPROXY_ADMIT_PROPERTIES_H

#include "../work/scratch.h"

/*
 * Reads the properties in s->properties.raw. Returns enum reason. A function of its own, so that the verifier follows it
 * once, and messages without any do not pay for it.
 */
__attribute__((noinline)) int properties_read(__u32 hook)
{
	struct scratch *s = scratch_of(hook);

	return s ? properties_scan(s->properties.raw, s->publish.properties, &s->properties.read) : REASON_PROPERTIES;
}

#endif
