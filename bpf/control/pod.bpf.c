/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* pod.bpf.c - whether a pod sleeps, as userspace changes it. */
#include "../upstream/pod.h"

/* Whether a pod has something to do: requests of the programs or the fallback, or messages that wait in its function's queue. */
static __always_inline bool pod_needed(const struct pod *pod)
{
	__u64 used = *(volatile __u64 *)&pod->filling; /* first, as for pod_full */
	struct queue *q = queue_entry(pod->queue);

	used |= *(volatile __u64 *)&pod->busy;
	return used || *(volatile __u32 *)&pod->fallback || (q && *(volatile __u32 *)&q->count);
}

/* Changes whether a pod is asleep (struct pod_args). */
SEC("syscall")
int pod_control(struct pod_args *a)
{
	__u32 key = a->pod, op = a->op, ok = 0, old;
	struct pod *pod = bpf_map_lookup_elem(&pods, &key);

	if (!pod)
		return 0;
	switch (op) {
	case POD_OP_REST:
		if (__sync_val_compare_and_swap(&pod->sleep, POD_AWAKE, POD_ASLEEP) != POD_AWAKE)
			break;
		ok = 1;
		if (pod_needed(pod)) {
			old = __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);
			opaque(old);
			ok = 0;
		}
		break;
	case POD_OP_WAKE:
		ok = __sync_val_compare_and_swap(&pod->sleep, POD_ASLEEP, POD_WAKING) == POD_ASLEEP;
		break;
	case POD_OP_AWAKE:
		pod->thawed_ns = bpf_ktime_get_ns();
		old = __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);
		opaque(old);
		ok = 1;
		break;
	}
	a->ok = ok;
	return 0;
}
