/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conn.h - the state machine of one grafted TCP connection. No kernel context:
 * compiles natively. Everything here runs under the connection's lock and is
 * the same for devices and pods.
 */
#ifndef EPROXY_CONN_H
#define EPROXY_CONN_H

#include "conn_rx.h"
#include "conn_tx.h"

#endif
