/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * sched.c - processors. A point stands before whatever another processor
 * could see or change: accesses to shared maps without the lock, locks,
 * atomics, look-ups in hashes. Whoever runs a schedule decides at which point
 * one processor stops and another goes on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "inside.h"

#define STACK	(512u << 10)
#define FOREVER INT64_MAX

struct machine machine;
__u32 machine_planted;
struct task *current;

static struct task tasks[TASKS];
static ucontext_t main_context;

void fault(const char *what)
{
	if (!machine.fault[0])
		snprintf(machine.fault, sizeof(machine.fault), "processor %d: %s", current ? (int)current->id : -1,
			 what);
}

static void stop(void)
{
	swapcontext(&current->context, &main_context);
}

/* what: 0, or the kind of access of which several in a row are one point. */
void point(__u32 what)
{
	struct task *t = current;

	if (!t || (t->held && !machine.fine))
		return;
	if (what && what == t->last && !machine.fine)
		return;
	t->last = what;
	t->points++;
	if (t->budget == FOREVER || t->budget-- > 0)
		return;
	t->at_point = true;
	stop();
}

void touch(const void *p, bool write)
{
	__u32 which = 0;

	if (!current || !memory_shared(p))
		return;
	if (memory_bulk(p, &which))
		which = which * 2 + write;
	point(which);
}

/* A copy can be stopped before its first and in the middle. */
void touch_range(const void *p, size_t len, bool write)
{
	__u32 which = 0;

	if (!current || !memory_shared(p))
		return;
	memory_bulk(p, &which);
	point(0);
	current->last = which * 2 + write;
}

void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	struct task *t = current;

	point(0);
	if (!t)
		return;
	if (t->held)
		fault("takes a lock while it holds one");
	while (lock->val && lock->val != t->id + 1) {
		t->wanted = lock;
		stop();
	}
	t->wanted = NULL;
	lock->val = t->id + 1;
	t->held = lock;
	point(0);
}

void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	struct task *t = current;

	if (!t)
		return;
	if (t->held != lock || lock->val != t->id + 1)
		fault("releases a lock that it does not hold");
	lock->val = 0;
	t->held = NULL;
	t->last = 0;
	if (t->until_unlock)
		stop();
	point(0);
}

static void enter(__u32 low, __u32 high)
{
	struct task *t = (struct task *)((uintptr_t)low | (uintptr_t)high << 32);

	task_main(t);
	if (t->held)
		fault("ends with a lock held");
	if (t->references)
		fault("keeps a reference to a socket");
	t->over = true;
	stop();
	abort();
}

static void resume(struct task *t)
{
	current = t;
	swapcontext(&main_context, &t->context);
	current = NULL;
}

/* As userspace does that waits for another processor. */
void give_way(void)
{
	current->gives_way = true;
	stop();
}

static void go_on(struct task *t, __s64 budget);

static void others_go_on(struct task *t)
{
	t->gives_way = false;
	for (__u32 i = 0; i < machine.tasks; i++)
		if (i != t->id && !tasks[i].over)
			go_on(&tasks[i], 4);
}

/* Runs a task for so many points; who holds a lock that it needs runs until it is free. */
static void go_on(struct task *t, __s64 budget)
{
	t->budget = budget;
	t->at_point = false;
	while (!t->over && !t->at_point) {
		if (t->wanted && t->wanted->val) {
			struct task *holder = &tasks[t->wanted->val - 1];

			if (holder->over) { /* its fault is noted */
				t->wanted->val = 0;
				continue;
			}
			holder->budget = FOREVER;
			holder->until_unlock = true;
			resume(holder);
			holder->until_unlock = false;
			continue;
		}
		if (t->gives_way)
			others_go_on(t);
		resume(t);
	}
}

static void task_new(__u32 id)
{
	static __u8 *stacks[TASKS];
	struct task *t = &tasks[id];

	if (!stacks[id])
		stacks[id] = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stacks[id] == MAP_FAILED)
		abort();
	memset(t, 0, sizeof(*t));
	t->id = id;
	getcontext(&t->context);
	t->context.uc_stack.ss_sp = stacks[id];
	t->context.uc_stack.ss_size = STACK;
	t->context.uc_link = NULL;
	makecontext(&t->context, (void (*)(void))enter, 2, (__u32)(uintptr_t)t, (__u32)((uintptr_t)t >> 32));
}

void machine_run(void)
{
	machine_planted = machine.planted;
	machine.records = 0;
	machine.fault[0] = 0;
	packets_reset();
	for (__u32 i = 0; i < machine.tasks; i++)
		task_new(i);
	for (__u32 i = 0; i < machine.turns; i++) {
		struct task *t = &tasks[machine.turn[i].task];

		go_on(t, machine.turn[i].points);
		machine.stopped[i] = t->at_point;
	}
	for (__u32 i = 0; i < machine.tasks; i++) {
		go_on(&tasks[i], FOREVER);
		machine.points[i] = tasks[i].points;
	}
}

long bpf_loop(__u32 n, long (*step)(__u64 index, void *data), void *data, __u64 flags)
{
	for (__u32 i = 0; i < n; i++)
		if (step(i, data))
			return i + 1;
	return n;
}

__u64 bpf_ktime_get_ns(void)
{
	return machine.now_ns;
}

__u32 bpf_get_prandom_u32(void)
{
	return 0x5bd1e995u * (machine.records + 1);
}

long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	__u32 half = size / 2;

	touch_range(from, size, false);
	touch_range(to, size, true);
	memcpy(to, from, half);
	touch_range(from, size, false);
	touch_range(to, size, true);
	memcpy((__u8 *)to + half, (const __u8 *)from + half, size - half);
	return 0;
}

/* The compiler's calls before each access. */
#define ACCESS(n)                               \
	void __tsan_read##n(void *p)            \
	{                                       \
		touch(p, false);                \
	}                                       \
	void __tsan_write##n(void *p)           \
	{                                       \
		touch(p, true);                 \
	}                                       \
	void __tsan_unaligned_read##n(void *p)  \
	{                                       \
		touch(p, false);                \
	}                                       \
	void __tsan_unaligned_write##n(void *p) \
	{                                       \
		touch(p, true);                 \
	}
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, size_t n)
{
	touch(p, false);
}
void __tsan_write_range(void *p, size_t n)
{
	touch(p, true);
}
void __tsan_func_entry(void *pc)
{
}
void __tsan_func_exit(void)
{
}
void __tsan_init(void)
{
}

/* Atomics on shared words. */
#define ATOMIC(bits, type, name, op)                                             \
	type __tsan_atomic##bits##_fetch_##name(volatile type *p, type v, int o) \
	{                                                                        \
		type old;                                                        \
                                                                                 \
		touch((const void *)p, true);                                    \
		old = *p;                                                        \
		*p = old op v;                                                   \
		return old;                                                      \
	}
ATOMIC(32, __u32, or, |)
ATOMIC(32, __u32, and, &)
ATOMIC(32, __u32, add, +)
ATOMIC(32, __u32, sub, -)
ATOMIC(64, __u64, or, |)
ATOMIC(64, __u64, and, &)
ATOMIC(64, __u64, add, +)
ATOMIC(64, __u64, sub, -)

__u32 __tsan_atomic32_compare_exchange_val(volatile __u32 *p, __u32 expected, __u32 v, int o, int fail)
{
	__u32 old;

	touch((const void *)p, true);
	old = *p;
	if (old == expected)
		*p = v;
	return old;
}

__u32 __tsan_atomic32_exchange(volatile __u32 *p, __u32 v, int o)
{
	__u32 old;

	touch((const void *)p, true);
	old = *p;
	*p = v;
	return old;
}

/* The same, as gcc calls it. */
bool __tsan_atomic32_compare_exchange_strong(volatile __u32 *p, __u32 *expected, __u32 v, int o, int fail)
{
	__u32 old = __tsan_atomic32_compare_exchange_val(p, *expected, v, o, fail);
	bool done = old == *expected;

	*expected = old;
	return done;
}
