// Package traffic measures how many messages or requests there are at a time, and how many
// come, as autoscalers want to know it: by sums that only grow, of which the difference
// over a second is what happened in that second.
package traffic
