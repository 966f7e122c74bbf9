// SPDX-License-Identifier: Apache-2.0
/*
 * Relays byte streams over lwIP, so that any client can be a device with lwIP's
 * TCP: no selective acknowledgements, no timestamps, few buffers, a coarse clock.
 *
 *	relay INTERFACE ADDRESS NETMASK PORT SERVER SERVERPORT
 *
 * It accepts kernel connections at 127.0.0.1:PORT and makes an lwIP connection to
 * the server for each, from ADDRESS, which must not be the kernel's: lwIP gets the
 * frames of the interface that are for a link address of its own. What ends a
 * connection at one side ends it at the other: an orderly close closes, all else
 * resets. It says "msg=serving" when it accepts. A client that does not read stops
 * all of lwIP.
 */
#include <arpa/inet.h>
#include <err.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#undef TCP_MSS /* lwIP has its own */
#include <lwip/etharp.h>
#include <lwip/ethip6.h>
#include <lwip/tcp.h>
#include <lwip/tcpip.h>

/* A locally administered link address. */
static const unsigned char hwaddr[ETH_ALEN] = { 0x02, 0x6c, 0x77, 0x49, 0x50, 0x01 };

static int wire;
static struct netif netif;
static ip4_addr_t server;
static unsigned short server_port;

struct relay {
	int fd;		     /* kernel's connection */
	struct tcp_pcb *pcb; /* NULL: ended; under the core lock */
	sem_t news;	     /* connected, room in the send buffer, or ended */
	int connected;
};

static err_t send_frame(struct netif *n, struct pbuf *p)
{
	unsigned char frame[1600];
	u16_t len = pbuf_copy_partial(p, frame, sizeof(frame), 0);

	(void)n;
	return write(wire, frame, len) == len ? ERR_OK : ERR_IF;
}

static err_t init_netif(struct netif *n)
{
	n->name[0] = 'e';
	n->name[1] = 'p';
	n->mtu = 1500;
	n->hwaddr_len = ETH_ALEN;
	memcpy(n->hwaddr, hwaddr, ETH_ALEN);
	n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	n->output = etharp_output;
	n->output_ip6 = ethip6_output;
	n->linkoutput = send_frame;
	return ERR_OK;
}

static void *receive_frames(void *unused)
{
	unsigned char frame[1600];

	(void)unused;
	for (;;) {
		ssize_t n = read(wire, frame, sizeof(frame));

		if (n < (ssize_t)ETH_HLEN)
			continue;
		/* lwIP does not look at the link address, and would forward what is for the kernel. */
		if (!(frame[0] & 1) && memcmp(frame, hwaddr, ETH_ALEN))
			continue;
		/* not of its pool, whose elements Debian's library makes shorter than it takes them for */
		struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)n, PBUF_RAM);

		if (!p)
			continue; /* lost, as on a device without memory */
		pbuf_take(p, frame, (u16_t)n);
		if (netif.input(p, &netif) != ERR_OK)
			pbuf_free(p);
	}
	return NULL;
}

/* The callbacks below run in lwIP's thread, which holds the core lock. */

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t e)
{
	struct relay *r = arg;

	(void)pcb;
	(void)e;
	r->connected = 1;
	sem_post(&r->news);
	return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	struct relay *r = arg;

	(void)pcb;
	(void)len;
	sem_post(&r->news);
	return ERR_OK;
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t e)
{
	struct relay *r = arg;

	(void)e;
	if (!p) {
		shutdown(r->fd, SHUT_WR);
		return ERR_OK;
	}
	for (struct pbuf *q = p; q; q = q->next)
		if (send(r->fd, q->payload, q->len, MSG_NOSIGNAL) != q->len)
			break; /* the reader sees it too, and resets */
	tcp_recved(pcb, p->tot_len);
	pbuf_free(p);
	return ERR_OK;
}

static void on_error(void *arg, err_t e)
{
	struct relay *r = arg;

	(void)e;
	r->pcb = NULL;
	shutdown(r->fd, SHUT_RDWR);
	sem_post(&r->news);
}

static int begin(struct relay *r)
{
	err_t e = ERR_MEM;

	LOCK_TCPIP_CORE();
	r->pcb = tcp_new();
	if (r->pcb) {
		ip_addr_t to;

		ip_addr_copy_from_ip4(to, server);
		tcp_arg(r->pcb, r);
		tcp_sent(r->pcb, on_sent);
		tcp_recv(r->pcb, on_received);
		tcp_err(r->pcb, on_error);
		tcp_nagle_disable(r->pcb);
		e = tcp_connect(r->pcb, &to, server_port, on_connected);
	}
	UNLOCK_TCPIP_CORE();
	return e == ERR_OK;
}

/* Sends all of b as there is room. Returns 0 if the connection has ended. */
static int send_all(struct relay *r, const char *b, size_t n)
{
	while (n > 0) {
		err_t e = ERR_CLSD;

		LOCK_TCPIP_CORE();
		if (r->pcb && r->connected) {
			size_t part = tcp_sndbuf(r->pcb) < n ? tcp_sndbuf(r->pcb) : n;

			e = part ? tcp_write(r->pcb, b, (u16_t)part, TCP_WRITE_FLAG_COPY) : ERR_MEM;
			if (e == ERR_OK) {
				b += part;
				n -= part;
				tcp_output(r->pcb);
			}
		} else if (r->pcb) {
			e = ERR_MEM; /* not yet connected */
		}
		UNLOCK_TCPIP_CORE();
		if (e == ERR_MEM)
			sem_wait(&r->news);
		else if (e != ERR_OK)
			return 0;
	}
	return 1;
}

static void *serve(void *arg)
{
	struct relay *r = arg;
	char b[4096];
	ssize_t n = -1;

	if (begin(r))
		while ((n = read(r->fd, b, sizeof(b))) > 0 && send_all(r, b, (size_t)n))
			;
	LOCK_TCPIP_CORE();
	if (r->pcb) {
		tcp_arg(r->pcb, NULL);
		tcp_sent(r->pcb, NULL);
		tcp_recv(r->pcb, NULL);
		tcp_err(r->pcb, NULL);
		if (n != 0 || tcp_close(r->pcb) != ERR_OK)
			tcp_abort(r->pcb);
	}
	UNLOCK_TCPIP_CORE();
	close(r->fd);
	sem_destroy(&r->news);
	free(r);
	return NULL;
}

static void open_wire(const char *ifname)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int one = 1;

	at.sll_ifindex = (int)if_nametoindex(ifname);
	if (!at.sll_ifindex)
		err(1, "%s", ifname);
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	if (wire < 0 || setsockopt(wire, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    bind(wire, (struct sockaddr *)&at, sizeof(at)))
		err(1, "packet socket on %s", ifname);
}

static int listen_at(unsigned short port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 128))
		err(1, "listen at port %d", port);
	return fd;
}

static void start(void *(*f)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, f, arg))
		err(1, "start a thread");
	pthread_detach(t);
}

int main(int argc, char **argv)
{
	ip4_addr_t address, netmask, gateway = { 0 };

	if (argc != 7 || !ip4addr_aton(argv[2], &address) || !ip4addr_aton(argv[3], &netmask) ||
	    !ip4addr_aton(argv[5], &server))
		errx(2, "usage: relay INTERFACE ADDRESS NETMASK PORT SERVER SERVERPORT");
	server_port = (unsigned short)atoi(argv[6]);
	signal(SIGPIPE, SIG_IGN);
	open_wire(argv[1]);
	int fd = listen_at((unsigned short)atoi(argv[4]));

	tcpip_init(NULL, NULL);
	LOCK_TCPIP_CORE();
	if (!netif_add(&netif, &address, &netmask, &gateway, NULL, init_netif, tcpip_input))
		errx(1, "lwIP takes no interface");
	netif_set_up(&netif);
	UNLOCK_TCPIP_CORE();
	start(receive_frames, NULL);
	fprintf(stderr, "msg=serving\n");
	for (;;) {
		int c = accept(fd, NULL, NULL), one = 1;
		struct relay *r = calloc(1, sizeof(*r));

		if (c < 0 || !r)
			err(1, "accept");
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		r->fd = c;
		sem_init(&r->news, 0, 0);
		start(serve, r);
	}
}
